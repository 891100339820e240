"""Good datasets in every packing, and good datasets with bad images in them."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import textwrap
import threading
import zipfile
import zlib
from pathlib import Path

import pytest

from service.blobs.store import BlobStore
from service.core.errors import Cancelled
from service.datasets.admission import admit_archive
from service.datasets.ingest import IngestResult, ingest
from service.datasets.limits import Limits
from tests.data import archives
from tests.data.archives import GOOD, class_folders, tar_bytes, zip_bytes, zip_with_declared_size
from tests.data.pictures import READABLE, UNREADABLE, picture

SPLITS = class_folders("train/") | class_folders("valid/") | class_folders("test/")


@pytest.fixture
def store(tmp_path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def of_bytes(data: bytes, store: BlobStore, **options) -> IngestResult:
    path = store.root.parent / "upload"
    path.write_bytes(data)
    return ingest(path, store=store, project="p", threads=2, **options)


def of_files(files: dict[str, bytes], store: BlobStore, **options) -> IngestResult:
    return of_bytes(zip_bytes(files), store, **options)


def stored(store: BlobStore) -> set[str]:
    return set(store.iter_hashes("p"))


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


PACKINGS = {
    "zip": zip_bytes,
    "zip stored": lambda files: zip_bytes(files, method=zipfile.ZIP_STORED),
    "zip with data descriptors": lambda files: zip_bytes(files, stream=True),
    "tar pax": tar_bytes,
    "tar gnu": lambda files: tar_bytes(files, form=tarfile.GNU_FORMAT),
    "tar ustar": lambda files: tar_bytes(files, form=tarfile.USTAR_FORMAT),
    "tar.gz": lambda files: gzip.compress(tar_bytes(files)),
    "tar.gz in two members": lambda files: (
        gzip.compress(tar_bytes(files)[:5000]) + gzip.compress(tar_bytes(files)[5000:])
    ),
    "tar.bz2": lambda files: bz2.compress(tar_bytes(files)),
    "tar.xz": lambda files: lzma.compress(tar_bytes(files)),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_the_same_sealed_dataset(packing, store, tmp_path):
    packed = of_bytes(PACKINGS[packing](SPLITS), store)
    plain = ingest(archives.folder(tmp_path / "plain", SPLITS), store=BlobStore(tmp_path / "other"), project="p")
    assert packed.manifest.fingerprint == plain.manifest.fingerprint
    assert list(packed.manifest.rows()) == list(plain.manifest.rows())
    assert packed.report.splits == {"train": 6, "validation": 6, "test": 6}
    assert packed.manifest.classes == ("cat", "dog")
    assert stored(store) == {sha(data) for data in SPLITS.values()}
    for row in packed.manifest.rows():
        with store.open("p", row.content_hash.hex()) as handle:
            assert handle.read() == SPLITS[row.path]
    inspected = admit_archive(tmp_path / "upload")
    assert (inspected.images, inspected.classes, inspected.splits) == (18, 2, ("train", "validation", "test"))
    assert inspected.complete


def test_an_enclosing_folder_litter_and_other_files_change_nothing(store, tmp_path):
    dressed = {f"my data/{path}": data for path, data in SPLITS.items()}
    dressed |= {"__MACOSX/my data/train/cat/._0.png": b"x", "my data/.DS_Store": b"x", "my data/README.md": b"x"}
    result = of_files(dressed, store)
    assert result.manifest.fingerprint == of_files(SPLITS, store).manifest.fingerprint
    assert result.report.other_files == 3


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_bad_image_is_named_and_skipped(name, store):
    data, words = UNREADABLE[name]
    result = of_files({**GOOD, "cat/bad.png": data}, store)
    assert result.report.unreadable.total == 1
    problem = result.report.unreadable.shown[0]
    assert problem.name == "cat/bad.png"
    assert words in problem.reason
    assert len(result.manifest) == len(GOOD)
    assert stored(store) == {sha(data) for data in GOOD.values()}


def test_every_readable_kind_is_sealed(store):
    suffixes = {"jpeg": "jpg", "png": "png", "webp": "webp", "bmp": "bmp", "gif": "gif", "tiff": "tif"}
    named = {name: next((suffixes[word] for word in name.split() if word in suffixes), "png") for name in READABLE}
    files = {f"{'ab'[n % 2]}/{name}.{named[name]}": data for n, (name, data) in enumerate(READABLE.items())}
    result = of_files(files, store)
    assert result.report.unreadable.total == 0
    assert result.report.images == len(READABLE)
    assert set(result.report.formats) == {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"}
    assert (result.report.width.smallest, result.report.width.largest) == (1, 300)
    assert any("several frames" in note for note in result.report.notes)


def test_images_of_kinds_that_are_not_read_are_named(store):
    result = of_files({**GOOD, "cat/x.heic": b"x", "cat/y.svg": b"x"}, store)
    assert [(p.name, p.reason) for p in result.report.unreadable.shown] == [
        ("cat/x.heic", "is a .heic file, which is not read"),
        ("cat/y.svg", "is a .svg file, which is not read"),
    ]


def test_an_image_over_the_byte_limit_is_skipped(store):
    big = picture(3, kind="BMP", size=(100, 100))
    result = of_files({**GOOD, "cat/big.bmp": big}, store, limits=Limits(max_image_bytes=20_000))
    assert [p.name for p in result.report.unreadable.shown] == ["cat/big.bmp"]
    assert "20,000" in result.report.unreadable.shown[0].reason


def test_a_zip_whose_sizes_lie_costs_that_file_alone(store):
    files = {**GOOD, "dog/z.png": bytes(3 << 20)}
    result = of_bytes(zip_with_declared_size(files, 1000), store)
    assert [p.name for p in result.report.unreadable.shown] == ["dog/z.png"]
    assert len(result.manifest) == len(GOOD)


def test_a_zip_member_with_a_damaged_checksum_is_skipped(store):
    data = zip_bytes(GOOD, method=zipfile.ZIP_STORED)
    at = data.find(GOOD["cat/1.png"])
    broken = data[: at + 60] + bytes([data[at + 60] ^ 1]) + data[at + 61 :]
    result = of_bytes(broken, store)
    assert [p.name for p in result.report.unreadable.shown] == ["cat/1.png"]


def test_unicode_names(store):
    files = {
        "katt/å.png": picture(1),
        "猫/дом.png": picture(2),
        "cafe\u0301/1.png": picture(3),
        "café/2.png": picture(4),
    }
    result = of_files(files, store)
    assert result.manifest.classes == ("café", "katt", "猫")
    assert {row.path for row in result.manifest.rows()} == {"katt/å.png", "猫/дом.png", "café/1.png", "café/2.png"}


def test_zip_names_without_the_utf8_flag(store):
    def without_flag(data: bytes) -> bytes:
        out = bytearray(data)
        for magic, at in ((b"PK\3\4", 7), (b"PK\1\2", 9)):
            start = out.find(magic)
            while start >= 0:
                out[start + at] &= ~0x08
                start = out.find(magic, start + 4)
        return bytes(out)

    mac = zip_bytes({"köln/1.png": picture(1), "bonn/2.png": picture(2)})
    assert of_bytes(without_flag(mac), store).manifest.classes == ("bonn", "köln")
    dos = zip_bytes({"k__ln/1.png": picture(1), "bonn/2.png": picture(2)}).replace(b"k__ln", b"k\x94_ln")
    assert of_bytes(dos, store).manifest.classes == ("bonn", "kö_ln")


def test_tar_names_that_are_no_utf8(store):
    files = {b"k\xf6ln/1.png".decode("utf-8", "surrogateescape"): picture(1), "bonn/2.png": picture(2)}
    assert of_bytes(tar_bytes(files, form=tarfile.GNU_FORMAT), store).manifest.classes == ("bonn", "köln")


def test_long_names_within_the_limit(store):
    long = "n" * 180
    result = of_bytes(tar_bytes({f"{long}/{'x' * 600}.png": picture(1), "b/1.png": picture(2)}), store)
    assert result.manifest.classes == ("b", long)


def test_a_zip64_archive(store):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in GOOD.items():
            with archive.open(name, "w", force_zip64=True) as handle:
                handle.write(data)
    assert len(of_bytes(out.getvalue(), store).manifest) == len(GOOD)


def test_class_names_that_differ_in_case_stay_apart(store):
    result = of_files(class_folders(classes=["Cat", "cat"]), store)
    assert result.manifest.classes == ("Cat", "cat")
    assert any("differ in case" in note for note in result.report.notes)


def test_what_two_datasets_share_is_stored_once_and_outlives_a_refusal(store):
    of_files(GOOD, store)
    before = {path: path.stat().st_ino for path in store.root.rglob("*") if path.is_file()}
    of_files({**GOOD, "dog/new.png": picture(99)}, store)
    after = {path: path.stat().st_ino for path in store.root.rglob("*") if path.is_file()}
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1


def test_progress_counts_up_to_the_total(store):
    seen: list[tuple[int, int | None]] = []
    of_files(class_folders(each=80), store, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(50, 160), (100, 160), (150, 160), (160, 160)]


def test_cancelling_stops_soon_and_leaves_nothing(store):
    calls = []

    def cancelled() -> bool:
        calls.append(None)
        return len(calls) > 3

    with pytest.raises(Cancelled):
        of_files(class_folders(each=400), store, cancelled=cancelled)
    assert not [path for path in store.root.rglob("*") if path.is_file()]


def test_an_error_of_the_callers_leaves_nothing_and_no_thread(store):
    class StoppedError(Exception):
        pass

    def progress(done: int, total: int | None) -> None:
        raise StoppedError

    before = threading.active_count()
    with pytest.raises(StoppedError):
        of_files(class_folders(each=80), store, progress=progress)
    assert not [path for path in store.root.rglob("*") if path.is_file()]
    assert threading.active_count() == before


def test_the_report_is_json(store):
    report = of_files({**GOOD, "cat/bad.png": b""}, store).report
    text = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert text["images"] == 6
    assert text["classes"][0] == {"name": "cat", "images": {"train": 3}}
    assert text["unreadable"] == {"shown": [{"name": "cat/bad.png", "reason": "is empty (0 bytes)"}], "total": 1}
    assert text["width"] == {"smallest": 12, "median": 12, "largest": 12}


def test_there_is_nothing_at_the_path(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        ingest(tmp_path / "absent", store=store, project="p")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_memory_does_not_grow_with_the_archive(tmp_path):
    """200 MB of noise in images of 0.4 MB, read in a process of its own whose peak is measured."""
    path = tmp_path / "big.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        header = picture(0, kind="BMP", size=(360, 360))[:54]
        for index in range(520):
            archive.writestr(f"{'ab'[index % 2]}/{index}.bmp", header + os.urandom(360 * 360 * 3))
    assert path.stat().st_size > 190 << 20
    script = """
        import sys
        from pathlib import Path
        from service.blobs.store import BlobStore
        from service.datasets.ingest import ingest

        def peak():  # unlike ru_maxrss it does not begin with the peak of the process that started this one
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

        before = peak()
        result = ingest(Path(sys.argv[1]), store=BlobStore(Path(sys.argv[2])), project="p", threads=4)
        print(len(result.manifest), peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path), str(tmp_path / "blobs")],
        capture_output=True,
        text=True,
        check=True,
    )
    images, grown_kib = map(int, done.stdout.split())
    assert images == 520
    assert 0 < grown_kib < 80 << 10


def test_the_store_keeps_original_bytes_not_decoded_ones(store):
    data = picture(5, kind="JPEG") + b"trailing bytes that Pillow ignores"
    result = of_files({**GOOD, "cat/x.jpg": data}, store)
    assert any(row.content_hash == hashlib.sha256(data).digest() for row in result.manifest.rows())
    assert zlib.crc32(store.path("p", sha(data)).read_bytes()) == zlib.crc32(data)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every file")
def test_a_file_of_a_folder_that_cannot_be_opened_is_reported(store, tmp_path):
    root = archives.folder(tmp_path / "ds", GOOD)
    (root / "cat/0.png").chmod(0)
    report = ingest(root, store=store, project="p").report
    assert [p.name for p in report.unreadable.shown] == ["cat/0.png"]


def test_a_file_of_a_folder_that_vanishes_is_reported(store, tmp_path):
    root = archives.folder(tmp_path / "ds", class_folders(each=80))
    last = root / "dog/79.png"
    report = ingest(
        root, store=store, project="p", threads=1, progress=lambda done, _: last.unlink(missing_ok=True)
    ).report
    assert [(p.name, p.reason) for p in report.unreadable.shown] == [
        ("dog/79.png", "cannot be opened (No such file or directory)")
    ]


def test_the_number_of_threads_changes_nothing(store):
    one, many = (
        ingest(upload, store=store, project="p", threads=threads)
        for upload in [_written(store, SPLITS)]
        for threads in (1, 12)
    )
    assert list(one.manifest.rows()) == list(many.manifest.rows())
    assert one.report == many.report


def _written(store: BlobStore, files: dict[str, bytes]):
    path = store.root.parent / "upload"
    path.write_bytes(zip_bytes(files))
    return path
