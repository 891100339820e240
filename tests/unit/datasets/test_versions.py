"""Versions, purely: a manifest and changes in, rows or a refusal out."""

import pytest

from service.blobs.store import BlobStore
from service.core.errors import InvalidRequest
from service.datasets.errors import NothingReadable, OneClass
from service.datasets.ingest import ingest, rebuilt
from service.datasets.manifest import Manifest, Row, build_manifest
from service.datasets.names import next_version_name
from service.datasets.versions import Changes, check, difference, edited, known_rows
from tests.data.archives import class_folders, zip_bytes
from tests.data.pictures import picture


def digest(n: int) -> bytes:
    return bytes([n]) * 32


def parent() -> Manifest:
    """Five images; number 1 stands in two splits, and two others share a path."""
    rows = [
        Row(digest(1), "train", 0, "train/cat/1.png", 4, 3),
        Row(digest(1), "test", 0, "test/cat/1.png", 4, 3),
        Row(digest(2), "train", 0, "train/cat/2.png", 5, 5),
        Row(digest(3), "train", 1, "train/dog/3.png", 6, 6),
        Row(digest(4), "test", 1, "same.png", 7, 7),
        Row(digest(5), "train", 1, "same.png", 8, 8),
    ]
    return build_manifest(rows, ("cat", "dog"))


def made(changes: Changes) -> Manifest:
    return rebuilt(edited(parent(), changes), "folders").manifest


def labels(manifest: Manifest) -> dict[tuple[int, str], str]:
    return {(row.content_hash[0], row.split): row.label for row in known_rows(manifest)}


def test_without_changes_it_is_the_same_dataset():
    same = made(Changes())
    assert same.fingerprint == parent().fingerprint
    assert same.table.equals(parent().table)


def test_a_path_removes_one_row_and_a_hash_every_row_of_the_image():
    assert labels(made(Changes(remove=("test/cat/1.png",)))).keys() == labels(parent()).keys() - {(1, "test")}
    gone = {(1, "test"), (1, "train")}
    assert labels(made(Changes(remove=(digest(1).hex(),)))).keys() == labels(parent()).keys() - gone
    assert labels(made(Changes(remove=(digest(1).hex().upper(),)))).keys() == labels(parent()).keys() - gone


def test_relabelling_keeps_the_rest_of_the_row():
    version = made(Changes(relabel={"train/cat/2.png": " wolf ", digest(4).hex(): "cat"}))
    assert version.classes == ("cat", "dog", "wolf")
    assert labels(version) == {**labels(parent()), (2, "train"): "wolf", (4, "test"): "cat"}
    before = {(r.content_hash, r.split): (r.path, r.width, r.height) for r in parent().rows()}
    assert {(r.content_hash, r.split): (r.path, r.width, r.height) for r in version.rows()} == before
    assert difference(parent(), version) == {
        "added": 0,
        "removed": 0,
        "relabelled": 2,
        "new_classes": ["wolf"],
        "lost_classes": [],
    }


def test_one_image_under_two_classes_is_left_out_as_when_it_is_taken_in():
    result = rebuilt(edited(parent(), Changes(relabel={"test/cat/1.png": "dog"})), "folders")
    assert result.report.conflicts.total == 1
    assert result.report.conflicts.shown[0].labels == ("cat", "dog")
    assert labels(result.manifest).keys() == labels(parent()).keys() - {(1, "train"), (1, "test")}
    assert difference(parent(), result.manifest)["removed"] == 2


def test_leaks_balance_and_sizes_are_found_again_and_what_is_not_known_is_absent():
    report = rebuilt(edited(parent(), Changes(remove=(digest(5).hex(),))), "csv").report
    assert report.leaks.total == 1
    assert (report.images, report.splits, report.layout) == (5, {"train": 3, "test": 2}, "csv")
    assert (report.balance.smallest, report.balance.largest) == (1, 2)
    assert (report.width.smallest, report.width.largest, report.height.largest) == (4, 7, 7)
    assert report.formats is None
    assert report.modes is None


REFUSED = {
    "unknown path": (Changes(remove=("train/cat/9.png", "nowhere.png")), "'nowhere.png', 'train/cat/9.png'"),
    "unknown hash": (Changes(relabel={digest(9).hex(): "cat"}), digest(9).hex()),
    "many unknown": (Changes(remove=tuple(f"{n}.png" for n in range(9))), "and 4 more"),
    "path of two images": (Changes(remove=("same.png",)), "content hash"),
    "removed and relabelled": (Changes(remove=(digest(2).hex(),), relabel={"train/cat/2.png": "dog"}), "both"),
    "two classes": (Changes(relabel={"train/cat/2.png": "dog", digest(2).hex(): "wolf"}), "two classes"),
    "empty class name": (Changes(relabel={"train/cat/2.png": "  "}), "class name"),
    "class name with a control character": (Changes(relabel={"train/cat/2.png": "a\x07"}), "class name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    changes, said = REFUSED[case]
    with pytest.raises(InvalidRequest, match=said):
        check(parent(), changes, adds=True)


def test_nothing_or_one_class_left_is_refused_unless_something_is_added():
    everything = Changes(remove=tuple(digest(n).hex() for n in range(1, 6)))
    dogs = Changes(remove=(digest(1).hex(), digest(2).hex()))
    with pytest.raises(InvalidRequest, match="every image"):
        check(parent(), everything, adds=False)
    with pytest.raises(OneClass, match="'dog'"):
        check(parent(), dogs, adds=False)
    check(parent(), everything, adds=True)
    check(parent(), dogs, adds=True)
    with pytest.raises(NothingReadable):
        rebuilt(edited(parent(), everything), "folders")
    with pytest.raises(OneClass):
        rebuilt(edited(parent(), dogs), "folders")


def test_an_archive_of_one_class_is_added_and_what_is_known_is_not_decoded(tmp_path, monkeypatch):
    files = class_folders("train/")
    store = BlobStore(tmp_path / "blobs")

    def taken_in(content: dict[str, bytes], **options):
        (tmp_path / "upload").write_bytes(zip_bytes(content))
        return ingest(tmp_path / "upload", store=store, project="p", threads=2, **options)

    first = taken_in(files).manifest
    again, label = next((data, path.split("/")[1]) for path, data in files.items())
    decoded = []
    from service.datasets.images import Decoder

    check_image = Decoder.check
    monkeypatch.setattr(
        Decoder, "check", lambda self, data, /, *, name: decoded.append(name) or check_image(self, data, name=name)
    )
    added = {f"{label}/new.png": picture(777), f"{label}/again.png": again, f"{label}/bad.png": b"no image"}
    result = taken_in(added, onto=list(known_rows(first)))
    assert sorted(decoded) == [f"{label}/bad.png", f"{label}/new.png"]
    assert difference(first, result.manifest) == {
        "added": 1,
        "removed": 0,
        "relabelled": 0,
        "new_classes": [],
        "lost_classes": [],
    }
    assert result.report.duplicate_copies == 1
    assert [problem.name for problem in result.report.unreadable.shown] == [f"{label}/bad.png"]
    assert len(set(store.iter_hashes("p"))) == len(files) + 1


def test_an_archive_that_contradicts_the_parent_costs_the_image_in_both(tmp_path):
    files = class_folders("train/")
    store = BlobStore(tmp_path / "blobs")
    (tmp_path / "a").write_bytes(zip_bytes(files))
    first = ingest(tmp_path / "a", store=store, project="p").manifest
    path, data = next(iter(files.items()))
    other = next(name for name in first.classes if name != path.split("/")[1])
    (tmp_path / "b").write_bytes(zip_bytes({f"{other}/x.png": data}))
    result = ingest(tmp_path / "b", store=store, project="p", onto=list(known_rows(first)))
    assert result.report.conflicts.shown[0].paths == tuple(sorted([path, f"{other}/x.png"]))
    assert len(result.manifest) == len(first) - 1


def test_names_of_versions_count_on():
    assert [next_version_name(name) for name in ("a", "a v2", "a v9", "a v", "x" * 300)] == [
        "a v2",
        "a v3",
        "a v10",
        "a v v2",
        "x" * 180 + " v2",
    ]
