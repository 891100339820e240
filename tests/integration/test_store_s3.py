"""The whole service with its segments on a real S3 server: ranked, read again, mended and purged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from service.embeddings import repository
from service.embeddings.model import Kind, SegmentNames
from service.operation import stored
from service.operation.checks import State
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.s3 import S3Server
from tests.helpers.service import Service, cli, settings_for
from tests.helpers.zoo import TinyZoo


@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_a_ranking_whose_segments_lie_on_s3(
    s3: S3Server, make_service: Callable[..., Service], tiny_zoo: TinyZoo, storage: str
) -> None:
    url = s3.prefix()
    service = make_service(store={"url": url, "storage": storage})
    remote = fsspec.filesystem("s3")
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed(zipped(class_folders(each=6)))["id"]
    first = service.ranked(dataset, tiny_zoo.names[:1], estimators=["logme", "leep"])
    assert first["state"] == "done"
    assert len(remote.find(url)) == 4  # features and source probabilities, two files each
    assert not service.settings.segment_root.exists()
    listed = json.loads(cli(service.settings, "store", "ls", "--json").stdout)["embeddings"]
    assert {(row["kind"], row["storage"]) for row in listed} == {("features", storage), ("source_probs", storage)}

    # A machine without a copy reads the same.
    shutil.rmtree(service.settings.cache_root)
    again = service.ranked(dataset, tiny_zoo.names[:1], estimators=["logme", "knn"])
    assert again["progress"]["images_embedded"] == 0
    assert again["entries"][0]["scores"]["logme"] == first["entries"][0]["scores"]["logme"]

    # What goes bad on the server is found there, whatever lies in the cache.
    with service.database.read() as session:
        held = repository.all_segments(session, "default")
    bad = next(info for info in held if info.key.kind == Kind.FEATURES)
    name = f"{url}/{SegmentNames.of(bad.key, bad.id).vectors}"
    data = bytearray(remote.cat_file(name))
    data[-1] ^= 1
    remote.pipe_file(name, bytes(data))
    mended = cli(service.settings, "store", "verify", "--json")
    assert mended.returncode == 0, mended.stderr
    (problem,) = json.loads(mended.stdout)["damaged"]
    assert (problem["segment"], problem["rows_embedded_again"]) == (bad.id, 18)

    service.call("DELETE", f"/v1/datasets/{dataset}", 204, params={"purge": True})
    service.work()
    assert remote.find(url) == []
    assert [path for path in service.settings.cache_root.rglob("*") if path.is_file()] == []


def test_the_doctor_tries_a_store_on_s3_and_leaves_nothing_there(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3.prefix()
    assert stored.store(settings_for(tmp_path, None, store={"url": url})).state is State.OK
    assert fsspec.filesystem("s3").find(url) == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    fsspec.filesystem("s3").clear_instance_cache()
    found = stored.store(settings_for(tmp_path, None, store={"url": url}))
    fsspec.filesystem("s3").clear_instance_cache()
    assert found.state is State.PROBLEM
    assert url in found.found


def test_without_credentials_a_ranking_says_that_the_store_does_not_answer(
    s3: S3Server, make_service: Callable[..., Service], tiny_zoo: TinyZoo
) -> None:
    service = make_service(store={"url": s3.prefix()})
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed(zipped(class_folders(each=3)))["id"]
    said = cli(
        service.settings, "rank", dataset, "--models", tiny_zoo.names[0], AWS_SECRET_ACCESS_KEY="another",
        ZOOSCOUT_WORKER__MAX_ATTEMPTS="1",
    )  # fmt: skip
    assert said.returncode != 0
    assert "The store at s3://" in said.stdout + said.stderr
