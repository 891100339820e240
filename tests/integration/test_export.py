"""Embeddings taken away: over HTTP, by the client and on the command line, read back with pyarrow and numpy."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.embeddings.model import StoreKey
from service.exports import formats, selection
from tests.helpers.pictures import CLASSES, class_folders, zipped
from tests.helpers.service import Service, cli, environment
from tests.helpers.zoo import TinyZoo
from zoo.catalog import ModelCard, extractor_id

TRAIN = class_folders(prefix="train/", each=6)
TEST = class_folders(prefix="test/", each=4, seed=1)


@pytest.fixture
def ranked(service: Service, tiny_zoo: TinyZoo) -> tuple[Service, dict[str, Any], dict[str, Any]]:
    (model,) = service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed(zipped(TRAIN | TEST), name="blätter & trees")
    service.ranked(dataset["id"], [model["id"]])
    return service, dataset, model


def exported(service: Service, dataset: dict[str, Any], **query: str) -> bytes:
    answer = service.client.get(f"/v1/datasets/{dataset['id']}/embeddings", params=query)
    assert answer.status_code == 200, answer.text
    return answer.content


def check(service: Service, model: dict[str, Any], found: dict[str, Any], files: dict[str, bytes]) -> None:
    """Every column, row by row, against the archive that was sent and the store."""
    import hashlib

    by_hash = {hashlib.sha256(data).digest(): name for name, data in files.items()}
    hashes = [bytes(value) for value in found["content_hash"]]
    assert hashes == sorted(by_hash)
    names = [by_hash[value] for value in hashes]
    assert list(found["path"]) == names
    assert list(found["split"]) == [name.split("/")[0] for name in names]
    assert [CLASSES[label] for label in found["label"]] == [name.split("/")[1] for name in names]
    card = ModelCard.from_json(model["card"])
    key = StoreKey("default", extractor_id(card, weights_sha256=card.weights.sha256 or ""))
    stored = service.worker.store.get(key, hashes)
    features = np.asarray(found["features"])
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, stored)


def test_parquet_and_npz_hold_the_same_rows(ranked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service, dataset, model = ranked
    monkeypatch.setattr(selection, "ROWS_AT_ONCE", 7)  # several batches, the last one smaller
    monkeypatch.setattr(formats, "ROWS_AT_ONCE", 7)
    query = {"model": model["name"], "split": "train"}
    body = exported(service, dataset, **query)
    with pq.ParquetFile(io.BytesIO(body)) as file:
        assert file.metadata.num_row_groups == 3
        table = file.read()
    assert table.column_names == ["content_hash", "path", "label", "class_name", "split", "features"]
    assert table.schema.field("features").type == pa.list_(pa.float32(), model["feature_dim"])
    columns = {name: table[name].to_pylist() for name in table.column_names[:-1]}
    columns["features"] = np.stack(table["features"].combine_chunks().to_numpy(zero_copy_only=False))
    check(service, model, columns, TRAIN)
    assert columns["class_name"] == [CLASSES[label] for label in columns["label"]]

    with np.load(io.BytesIO(exported(service, dataset, **query, format="npz")), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    assert set(found) == {"content_hash", "path", "label", "classes", "split", "features"}
    check(service, model, found, TRAIN)
    assert tuple(found["classes"]) == CLASSES
    assert found["features"].shape == (len(TRAIN), model["feature_dim"])


def test_the_answer_is_named_and_typed(ranked: Any) -> None:
    service, dataset, model = ranked
    for fmt, kind in (("parquet", "application/vnd.apache.parquet"), ("npz", "application/zip")):
        answer = service.client.get(
            f"/v1/datasets/{dataset['id']}/embeddings", params={"model": model["id"], "split": "train", "format": fmt}
        )
        assert answer.headers["content-type"] == kind
        assert f"bl%C3%A4tter%20%26%20trees-tiny_resnet.a.{fmt}" in answer.headers["content-disposition"]


def test_what_is_not_embedded_is_counted_and_the_command_named(ranked: Any, tiny_zoo: TinyZoo) -> None:
    service, dataset, model = ranked
    url = f"/v1/datasets/{dataset['id']}/embeddings"
    both = service.call("GET", url, 409, params={"model": model["name"]})
    assert both["type"] == "/problems/embeddings-missing"
    assert "12 of 30 images" in both["detail"]
    assert "12 of 12 in test" in both["detail"]
    assert f"zooscout datasets inspect '{dataset['name']}' --model {model['name']}" in both["detail"]
    assert "split=train" in both["detail"]
    test = service.call("GET", url, 409, params={"model": model["name"], "split": "test"})
    assert "12 of 12 images" in test["detail"]
    (other,) = service.add_models(tiny_zoo.good[1:2])
    none = service.call("GET", url, 409, params={"model": other["name"], "split": "train"})
    assert "18 of 18 images" in none["detail"]
    assert f"zooscout rank '{dataset['name']}' --models {other['name']}" in none["detail"]
    service.call("POST", "/v1/models", 201, json=tiny_zoo.good[2].request())
    unseen = service.call("GET", url, 409, params={"model": tiny_zoo.good[2].name})
    assert "zooscout rank" in unseen["detail"]


def test_what_cannot_be_exported_is_refused(ranked: Any) -> None:
    service, dataset, model = ranked
    url = f"/v1/datasets/{dataset['id']}/embeddings"
    service.call("GET", "/v1/datasets/nothing/embeddings", 404, params={"model": model["id"]})
    service.call("GET", url, 404, params={"model": "nobody"})
    service.call("GET", url, 422)
    service.call("GET", url, 422, params={"model": model["id"], "format": "csv"})
    no_split = service.call("GET", url, 422, params={"model": model["id"], "split": "validation"})
    assert "train, test" in no_split["detail"]
    unchecked = service.upload(zipped(class_folders(seed=8)), name="unchecked")
    refused = service.call("GET", f"/v1/datasets/{unchecked['id']}/embeddings", 409, params={"model": model["id"]})
    assert refused["type"] == "/problems/conflict"


def test_the_command_writes_what_the_api_sends(ranked: Any, tmp_path: Path) -> None:
    service, dataset, model = ranked
    for name, fmt in (("out.parquet", "parquet"), ("out.npz", "npz")):
        path = tmp_path / name
        words = ["--model", model["name"], "--split", "train", "--output", str(path)]
        done = cli(service.settings, "embeddings", "export", dataset["name"], *words)
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        assert "MB" in done.stderr
        assert path.read_bytes() == exported(service, dataset, model=model["id"], split="train", format=fmt)
    refused = cli(service.settings, "embeddings", "export", dataset["name"], *words[:2], "-o", str(path))
    assert refused.returncode == 5
    assert "--split train" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert sorted(p.name for p in tmp_path.glob("out*")) == ["out.npz", "out.parquet"]


def test_the_api_exports_without_torch(ranked: Any) -> None:
    service, dataset, model = ranked
    code = f"""
import sys
from starlette.testclient import TestClient
from service.api.app import create_app
with TestClient(create_app(), base_url="http://localhost") as client:
    for fmt in ("parquet", "npz"):
        url = "/v1/datasets/{dataset["id"]}/embeddings"
        assert client.get(url, params={{"model": "{model["id"]}", "split": "train", "format": fmt}}).status_code == 200
print(sorted({{"torch", "timm", "sklearn", "scipy"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(service.settings), capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1].replace("'", '"')) == []


def test_the_client_writes_the_file_or_says_why_not(service: Service, tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    """Against a server of its own: what is streamed must arrive whole, and a refusal must arrive as its problem."""
    import socket
    import threading
    import time

    import uvicorn

    from service.api.app import create_app
    from service.client import ApiProblem, Client

    (model,) = service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed(zipped(TRAIN), name="trees")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(service.settings), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            with Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
                with pytest.raises(ApiProblem, match="no embedding") as refused:
                    client.export_embeddings("trees", model["name"], tmp_path / "no.parquet")
                assert refused.value.status == 409
                assert not (tmp_path / "no.parquet").exists()
                with pytest.raises(ApiProblem) as none:
                    client.reference()
                assert none.value.type == "/problems/no-reference-set"
                assert client.set_reference("trees") == client.reference()
                assert client.reference().dataset == dataset["id"]
                client.clear_reference()
                service.ranked(dataset["id"], [model["id"]])
                client.export_embeddings("trees", model["name"], tmp_path / "trees.npz", fmt="npz", split="train")
        finally:
            server.should_exit = True
            thread.join()
    assert (tmp_path / "trees.npz").read_bytes() == exported(service, dataset, model=model["id"], format="npz")
