"""Duplicates, conflicts and leaks: what stays in the manifest and what the report says."""

from service.blobs.store import BlobStore
from service.datasets.ingest import IngestResult, ingest
from tests.data.archives import class_folders, hash_of, zip_bytes
from tests.data.pictures import picture


def sealed(tmp_path, files: dict[str, bytes]) -> IngestResult:
    (tmp_path / "upload").write_bytes(zip_bytes(files))
    return ingest(tmp_path / "upload", store=BlobStore(tmp_path / "blobs"), project="p", threads=2)


def kept(result: IngestResult) -> set[str]:
    return {row.path for row in result.manifest.rows()}


BASE = class_folders("train/") | class_folders("test/")
COPY = BASE["train/cat/0.png"]


def test_a_copy_in_the_same_class_and_split_is_one_row(tmp_path):
    result = sealed(tmp_path, {**BASE, "train/cat/copy.png": COPY, "train/cat/copy2.png": COPY})
    assert kept(result) == set(BASE)
    assert result.report.duplicate_copies == 2
    assert result.report.duplicates.total == 1
    assert result.report.duplicates.shown[0].paths == ("train/cat/0.png", "train/cat/copy.png", "train/cat/copy2.png")
    assert result.report.conflicts.total == result.report.leaks.total == 0
    assert result.manifest.fingerprint == sealed(tmp_path, BASE).manifest.fingerprint


def test_one_image_in_two_classes_is_left_out_of_both(tmp_path):
    result = sealed(tmp_path, {**BASE, "train/dog/again.png": COPY})
    assert kept(result) == set(BASE) - {"train/cat/0.png"}
    conflict = result.report.conflicts.shown[0]
    assert conflict.labels == ("cat", "dog")
    assert conflict.paths == ("train/cat/0.png", "train/dog/again.png")
    assert any("more than one class" in note for note in result.report.notes)
    assert not (tmp_path / "blobs" / "p" / conflict.content_hash[:2] / conflict.content_hash).exists()


def test_a_conflict_between_splits_is_a_conflict_too(tmp_path):
    result = sealed(tmp_path, {**BASE, "test/dog/again.png": COPY})
    assert result.report.conflicts.total == 1
    assert result.report.leaks.total == 0
    assert kept(result) == set(BASE) - {"train/cat/0.png"}


def test_one_image_in_two_splits_stays_in_both_and_is_reported(tmp_path):
    result = sealed(tmp_path, {**BASE, "test/cat/again.png": COPY})
    assert kept(result) == {*BASE, "test/cat/again.png"}
    assert result.report.leaks.shown[0].paths == ("test/cat/again.png", "train/cat/0.png")
    assert result.report.duplicate_copies == 0
    assert any("too good" in note for note in result.report.notes)


def test_counts_balance_and_notes(tmp_path):
    files = {f"train/many/{n}.png": picture(hash_of(f"m{n}")) for n in range(30)}
    files |= {f"train/few/{n}.png": picture(hash_of(f"f{n}")) for n in range(2)}
    files |= {"train/one/0.png": picture(1), "test/unseen/0.png": picture(2), "test/many/0.png": picture(3)}
    report = sealed(tmp_path, files).report
    assert {c.name: c.images for c in report.classes} == {
        "few": {"train": 2, "test": 0},
        "many": {"train": 30, "test": 1},
        "one": {"train": 1, "test": 0},
        "unseen": {"train": 0, "test": 1},
    }
    assert (report.balance.split, report.balance.smallest, report.balance.largest, report.balance.ratio) == (
        "train",
        0,
        30,
        0.0,
    )
    text = " ".join(report.notes)
    assert "'one': one image only" in text
    assert "'unseen': no image in the training split" in text


def test_long_lists_are_cut_and_still_counted(tmp_path):
    report = sealed(tmp_path, {**BASE, **{f"train/cat/bad{n}.png": b"x" for n in range(130)}}).report
    assert report.unreadable.total == 130
    assert len(report.unreadable.shown) == 100
