"""Features that a user brings: `POST /v1/scores` and `zooscout score`."""

import io
import json
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_iris

from estimators.catalog import SPECS
from service.worker.loop import run
from tests.helpers.service import Service, cli, settings_for

LOGME_OF_IRIS = -0.160060  # see tests/oracles for where it comes from


def packed(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def iris() -> dict[str, np.ndarray]:
    data = load_iris()
    return {"features": data.data.astype(np.float32), "labels": data.target}


def test_scores_are_computed_by_a_worker_and_their_file_goes(service: Service, iris: dict[str, np.ndarray]) -> None:
    answer = service.client.post("/v1/scores", content=packed(**iris), params={"estimators": "logme,leep"})
    assert answer.status_code == 202
    assert answer.json()["state"] == "queued"
    service.work()
    view = service.call("GET", answer.headers["location"])
    assert view["state"] == "done"
    assert view["scores"]["logme"]["value"] == pytest.approx(LOGME_OF_IRIS, abs=1e-5)
    assert view["scores"]["logme"]["stderr"] > 0
    assert "source probabilities" in view["scores"]["leep"]["missing"]
    assert service.files("uploads") == []


def test_prefer_wait_answers_with_the_result(service: Service, iris: dict[str, np.ndarray]) -> None:
    stop = threading.Event()
    worker = threading.Thread(target=run, args=(service.worker, stop))
    worker.start()
    try:
        answer = service.client.post(
            "/v1/scores",
            content=packed(**iris),
            params={"estimators": "logme"},
            headers={"Prefer": "respond-async, wait=30"},
        )
    finally:
        stop.set()
        worker.join()
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.json()["scores"]["logme"]["value"] == pytest.approx(LOGME_OF_IRIS, abs=1e-5)


def test_prefer_wait_gives_up_in_time(service: Service, iris: dict[str, np.ndarray]) -> None:
    answer = service.client.post("/v1/scores", content=packed(**iris), headers={"Prefer": "wait=1"})
    assert answer.status_code == 202
    assert answer.json()["scores"] == {}


def test_parquet_gives_the_same_scores(service: Service, iris: dict[str, np.ndarray], tmp_path: Path) -> None:
    table = pa.table({"features": list(iris["features"]), "labels": iris["labels"]})
    pq.write_table(table, tmp_path / "iris.parquet")
    body = (tmp_path / "iris.parquet").read_bytes()
    made = service.call("POST", "/v1/scores", 202, content=body, params={"estimators": "logme"})
    service.work()
    value = service.call("GET", f"/v1/scores/{made['id']}")["scores"]["logme"]["value"]
    assert value == pytest.approx(LOGME_OF_IRIS, abs=1e-5)


BAD = {
    "neither format": (b"hello, I am text", "neither"),
    "empty": (b"", "empty"),
    "truncated": (packed(features=np.zeros((4, 2)), labels=np.arange(4))[:200], "cannot be read"),
    "a pickle": (packed(features=np.zeros((4, 2)), labels=np.array([1, None, 2, 3], dtype=object)), "dtype object"),
    "no labels": (packed(features=np.zeros((4, 2))), "no array 'labels'"),
    "another length": (packed(features=np.zeros((4, 2)), labels=np.arange(3)), r"labels must be \[4\]"),
    "unknown array": (packed(features=np.zeros((4, 2)), labels=np.arange(4), weird=np.zeros(1)), "weird"),
    "text features": (packed(features=np.array([["a"]]), labels=np.arange(1)), "numbers are needed"),
    "half a background": (
        packed(features=np.zeros((4, 2)), labels=np.arange(4), background_mean=np.zeros(2)),
        "needed together",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_and_nothing_stays(service: Service, case: str) -> None:
    import re

    body, words = BAD[case]
    answer = service.client.post("/v1/scores", content=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert re.search(words, answer.json()["detail"])
    assert service.files("uploads") == []
    assert service.tasks() == []


def test_arrays_over_the_cap_are_refused_by_their_headers(tmp_path: Path) -> None:
    from service.scoring.arrays import check_file
    from service.scoring.errors import BadArrays

    path = tmp_path / "big.npz"
    np.savez_compressed(path, features=np.zeros((1000, 1000)), labels=np.arange(1000))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadArrays, match="the cap is 1,000,000"):
        check_file(path, max_bytes=1_000_000)


def test_unknown_estimator_is_named(service: Service, iris: dict[str, np.ndarray]) -> None:
    problem = service.call("POST", "/v1/scores", 422, content=packed(**iris), params={"estimators": "lgome"})
    assert problem["type"] == "/problems/unknown-estimator"
    assert "logme" in problem["detail"]


def test_command_line_gives_every_estimator_a_value_or_a_reason(tmp_path: Path, iris: dict[str, np.ndarray]) -> None:
    settings = settings_for(tmp_path / "data", None)
    path = tmp_path / "iris.npz"
    np.savez(path, **iris)
    done = cli(settings, "score", str(path), "--estimators", "all", "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert set(scores) == set(SPECS)
    for name, score in scores.items():
        assert ("value" in score) != bool({"degenerate", "missing"} & set(score)), name
    assert not (tmp_path / "data").exists(), "scoring a file needs no database"


def test_command_line_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", None)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    for words, status in (((str(tmp_path / "bad.npz"),), 3), ((str(tmp_path / "absent.npz"),), 4), ((), 2)):
        done = cli(settings, "score", *words)
        assert done.returncode == status
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
