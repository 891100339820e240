"""What is removed is gone: at once from the tables, with purge from every file, else after the grace period."""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from service.worker.loop import run
from tests.helpers.pictures import CLASSES, class_folders, zipped
from tests.helpers.service import Service, cli
from tests.helpers.zoo import TinyZoo

MARKER = b"a marker that stands in no other file"


def trace(root: Path, *needles: bytes) -> list[Path]:
    """Files under the data directory that hold any of the needles, or are named after one of them."""
    return [
        path
        for path in root.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() or needle.hex() in path.name for needle in needles)
    ]


def content_hashes(files: dict[str, bytes]) -> list[bytes]:
    return [hashlib.sha256(data).digest() for data in files.values()]


def traces_of(files: dict[str, bytes]) -> list[bytes]:
    """The marker, and every image's content hash raw and in hexadecimal."""
    hashes = content_hashes(files)
    return [MARKER, *hashes, *(value.hex().encode() for value in hashes)]


def age(root: Path, seconds: float) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - seconds
            os.utime(path, (then, then))


@pytest.fixture
def ranked(each_service: Service, tiny_zoo: TinyZoo) -> tuple[dict[str, bytes], dict[str, Any]]:
    """A dataset whose every image bears the marker, embedded by two models, one of which keeps source probabilities."""
    files = class_folders(each=6, seed=9, marker=MARKER)
    each_service.add_models(tiny_zoo.good[:2])
    dataset = each_service.sealed(zipped(files), name="private")
    ranking = each_service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme", "leep"])
    assert ranking["state"] == "done"
    assert trace(each_service.data_dir, MARKER)
    assert trace(each_service.data_dir / "segments", *content_hashes(files))
    return files, ranking


def test_a_purged_dataset_leaves_no_byte(each_service: Service, ranked) -> None:
    files, ranking = ranked
    ident = ranking["dataset"]["id"]
    each_service.call("DELETE", f"/v1/datasets/{ident}", 204, params={"purge": True})
    each_service.call("GET", f"/v1/datasets/{ident}", 404)
    each_service.call("GET", f"/v1/rankings/{ranking['id']}", 404)
    each_service.work()
    assert {state for kind, state, _ in each_service.tasks() if kind == "collect"} == {"done"}
    assert trace(each_service.data_dir, *traces_of(files)) == []
    assert each_service.files("uploads", "blobs", "manifests", "segments") == []


def test_a_purge_keeps_what_another_dataset_shares(service: Service, tiny_zoo: TinyZoo) -> None:
    shared = class_folders(each=5, seed=1)
    private = class_folders(each=3, seed=2, prefix="", marker=MARKER)
    both = {f"{name.replace('/', '/p')}": data for name, data in private.items()} | shared
    service.add_models(tiny_zoo.good[:1])
    first = service.sealed(zipped(both), name="both")
    second = service.sealed(zipped(shared), name="shared")
    kept = service.ranked(second["id"], tiny_zoo.names[:1])
    service.ranked(first["id"], tiny_zoo.names[:1])
    service.call("DELETE", f"/v1/datasets/{first['id']}", 204, params={"purge": True})
    service.work()
    assert trace(service.data_dir, *traces_of(private)) == []
    assert sorted(p.name for p in service.files("blobs")) == sorted(h.hex() for h in content_hashes(shared))
    again = service.ranked(second["id"], tiny_zoo.names[:1])
    assert [e["scores"] for e in again["entries"]] == [e["scores"] for e in kept["entries"]]
    fresh = service.ranked(second["id"], tiny_zoo.names[:1], estimators=["knn", "gbc", "logme"])
    assert fresh["progress"]["images_embedded"] == 0


def test_without_purge_files_stay_until_the_grace_period_is_over(each_service: Service, ranked) -> None:
    files, ranking = ranked
    each_service.call("DELETE", f"/v1/datasets/{ranking['dataset']['id']}", 204)
    each_service.work()
    assert trace(each_service.data_dir, MARKER)
    assert trace(each_service.data_dir / "segments", *content_hashes(files))
    age(each_service.data_dir, each_service.settings.store.grace_seconds + 60)
    other = each_service.sealed(zipped(class_folders(each=2, seed=77)), name="other")
    each_service.call("DELETE", f"/v1/datasets/{other['id']}", 204)
    each_service.work()
    assert trace(each_service.data_dir, *traces_of(files)) == []
    assert len(each_service.files("blobs")) == len(CLASSES) * 2  # these have been there for no longer than a moment


def test_a_purge_works_beside_a_dataset_that_was_refused(service: Service) -> None:
    service.upload(zipped({"a/1.png": b"text", "b/1.png": b""}), name="refused")
    kept = service.sealed(zipped(class_folders(each=2, seed=5)), name="kept")
    files = class_folders(each=2, seed=6, marker=MARKER)
    gone = service.sealed(zipped(files), name="gone")
    service.call("DELETE", f"/v1/datasets/{gone['id']}", 204, params={"purge": True})
    service.work()
    assert trace(service.data_dir, *traces_of(files)) == []
    assert len(service.files("blobs")) == kept["n_images"]


def test_an_upload_removed_before_any_worker_looked_leaves_nothing(each_service: Service) -> None:
    for purge in (True, False):
        files = class_folders(each=2, seed=3, marker=MARKER)
        made = each_service.upload(zipped(files))
        assert trace(each_service.data_dir, MARKER)
        each_service.call("DELETE", f"/v1/datasets/{made['id']}", 204, params={"purge": purge})
        each_service.work()
        assert trace(each_service.data_dir, *traces_of(files)) == []


def test_an_upload_removed_while_a_worker_takes_it_in_leaves_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dataset goes at the worst moment: its images are published, its row is not yet sealed."""
    from service.worker import ingesting

    files = class_folders(each=2, seed=4, marker=MARKER)
    made = service.upload(zipped(files))
    write = ingesting.write_manifest

    def removed_meanwhile(manifest, path: Path) -> None:
        write(manifest, path)
        service.call("DELETE", f"/v1/datasets/{made['id']}", 204, params={"purge": True})
        # Another worker collects before this one learns that its dataset is gone.
        run(service.worker, threading.Event(), subjects=["default"], finished=lambda: not open_collections())

    def open_collections() -> list[object]:
        return [task for task in service.tasks(kind="collect") if task[1] in {"queued", "running"}]

    monkeypatch.setattr(ingesting, "write_manifest", removed_meanwhile)
    service.work()
    assert trace(service.data_dir, *traces_of(files)) == []


def test_a_purge_spares_what_is_taken_in_while_it_runs(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset is sealed after the purge has looked at the tables: its images must stay."""
    from service.worker import collecting

    first = service.sealed(zipped(class_folders(each=2, seed=1)), name="first")
    gone = service.sealed(zipped(class_folders(each=2, seed=2)), name="gone")
    late = class_folders(each=2, seed=3)
    read = collecting.read_manifest
    made: list[dict[str, Any]] = []

    def sealed_meanwhile(path: Path) -> Any:
        if not made:
            made.append(service.sealed(zipped(late), name="late"))
        return read(path)

    monkeypatch.setattr(collecting, "read_manifest", sealed_meanwhile)
    service.call("DELETE", f"/v1/datasets/{gone['id']}", 204, params={"purge": True})
    service.work()
    assert made
    assert len(service.files("blobs")) == first["n_images"] + made[0]["n_images"]
    assert len(service.files("manifests")) == 2


def test_a_removed_models_embeddings_go_with_a_purge_and_its_images_stay(
    each_service: Service, ranked, tiny_zoo: TinyZoo
) -> None:
    files, _ = ranked
    service = each_service
    segments = len(service.files("segments"))
    service.call("DELETE", f"/v1/models/{tiny_zoo.names[0]}", 204)
    service.work()
    assert len(service.files("segments")) == segments
    purged = cli(service.settings, "store", "gc", "--purge")
    assert purged.returncode == 0, purged.stderr
    assert len(service.files("segments")) == segments - 4  # features and source probabilities, two files each
    assert len(service.files("blobs")) == len(files)


def test_removing_a_ranking_keeps_its_scores_for_the_next(each_service: Service, ranked, tiny_zoo: TinyZoo) -> None:
    _, first = ranked
    each_service.call("DELETE", f"/v1/rankings/{first['id']}", 204)
    each_service.call("GET", f"/v1/rankings/{first['id']}", 404)
    again = each_service.ranked(first["dataset"]["id"], tiny_zoo.names[:2], estimators=["logme", "leep"])
    assert again["entries"] == first["entries"]
    assert each_service.tasks(kind="embed", subject_id=again["id"]) == []


def test_removing_what_is_not_there_is_a_404(service: Service) -> None:
    for kind in ("models", "datasets", "rankings"):
        assert service.call("DELETE", f"/v1/{kind}/nothing", 404)["type"] == "/problems/not-found"
    assert service.tasks() == []


def test_a_running_ranking_is_removed_with_its_tasks(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    made = service.call("POST", "/v1/rankings", 202, json={"dataset": dataset["id"], "models": tiny_zoo.names})
    run(service.worker, threading.Event(), finished=lambda: bool(service.tasks(kind="embed")))
    service.call("DELETE", f"/v1/rankings/{made['id']}", 204)
    service.work()
    assert service.tasks(kind="embed") == []
    assert service.files("segments") == []
