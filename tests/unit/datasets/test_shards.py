"""Parquet files that carry the images themselves."""

import json
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.blobs.store import BlobStore
from service.datasets.admission import admit_archive
from service.datasets.errors import BadManifest, CorruptArchive, ImageBomb, OneClass
from service.datasets.ingest import IngestResult, ingest
from tests.data.archives import folder, tar_bytes, zip_bytes
from tests.data.pictures import BOMBS, picture

CAT_DOG = {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}


def shard(
    images, labels, *, features: dict | None = None, struct: bool = True, columns=("image", "label"), **options
) -> bytes:
    made = (
        pa.array([None if i is None else {"bytes": i, "path": "x.png"} for i in images]) if struct else pa.array(images)
    )
    table = pa.table({columns[0]: made, columns[1]: labels})
    if features is not None:
        stated = {columns[0]: {"_type": "Image"}, **features}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": stated}})})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def sealed(tmp_path, data: bytes) -> IngestResult:
    (tmp_path / "upload").write_bytes(data)
    return ingest(tmp_path / "upload", store=BlobStore(tmp_path / "blobs"), project="p", threads=2)


def rows(result: IngestResult) -> dict[str, tuple[str, str]]:
    return {row.path: (result.manifest.classes[row.label], row.split) for row in result.manifest.rows()}


def pictures(count: int, first: int = 0) -> list[bytes]:
    return [picture(first + n) for n in range(count)]


def test_the_hubs_layout(tmp_path):
    result = sealed(tmp_path, shard(pictures(3), [0, 1, 0], features=CAT_DOG))
    assert rows(result) == {
        "upload.parquet#0": ("dog", "train"),
        "upload.parquet#1": ("cat", "train"),
        "upload.parquet#2": ("dog", "train"),
    }
    assert result.manifest.classes == ("cat", "dog")
    assert result.report.layout == "parquet"
    inspected = admit_archive(tmp_path / "upload")
    assert (inspected.source_format, inspected.layout, inspected.images, inspected.classes) == (
        "parquet",
        "parquet",
        3,
        2,
    )


def test_plain_binary_columns_with_text_labels(tmp_path):
    data = shard(pictures(2), ["cat", "dog"], struct=False, columns=("img", "class"))
    assert {label for label, _ in rows(sealed(tmp_path, data)).values()} == {"cat", "dog"}


def test_numbers_without_names_name_themselves(tmp_path):
    assert sealed(tmp_path, shard(pictures(3), [7, 10, 7])).manifest.classes == ("10", "7")


def test_withheld_labels_and_missing_images_are_reported(tmp_path):
    images = [*pictures(2), None, picture(8), picture(9), b"text"]
    result = sealed(tmp_path, shard(images, [0, 1, 0, -1, None, 1], features=CAT_DOG))
    assert result.report.unlabelled.shown == ("upload.parquet#3", "upload.parquet#4")
    assert [(p.name, p.reason) for p in result.report.unreadable.shown] == [
        ("upload.parquet#2", "has no image bytes in its row"),
        ("upload.parquet#5", "is no JPEG, PNG, WebP, BMP, GIF or TIFF image"),
    ]


SHARDS = {
    "data/train-00000-of-00002.parquet": shard(pictures(4), [0, 1, 0, 1], features=CAT_DOG),
    "data/train-00001-of-00002.parquet": shard(pictures(2, 10), [0, 1], features=CAT_DOG),
    "data/test-00000-of-00001.parquet": shard(pictures(2, 20), [0, 1], features=CAT_DOG),
    "README.md": b"x",
    "preview/title.png": picture(99),
}


@pytest.mark.parametrize("pack", [zip_bytes, tar_bytes, None], ids=["zip", "tar", "folder"])
def test_several_shards(pack, tmp_path):
    if pack is None:
        store = BlobStore(tmp_path / "blobs")
        result = ingest(folder(tmp_path / "ds", SHARDS), store=store, project="p")
    else:
        result = sealed(tmp_path, pack(SHARDS))
        assert admit_archive(tmp_path / "upload").layout == "parquet"
    assert result.report.splits == {"train": 6, "test": 2}
    assert rows(result)["data/test-00000-of-00001.parquet#1"] == ("cat", "test")
    assert result.report.notes == ("1 images beside the Parquet files were not used.",)
    left = [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert sorted(left) == sorted({row.content_hash.hex() for row in result.manifest.rows()})


REFUSED = {
    "no image column": (lambda: shard(["a", "b"], [0, 1], struct=False), BadManifest),
    "no label column": (lambda: shard(pictures(2), [0, 1], columns=("image", "width")), BadManifest),
    "measured values": (lambda: shard(pictures(2), [0.1, 0.7]), BadManifest),
    "several labels an image": (lambda: shard(pictures(2), [[0], [1, 2]]), BadManifest),
    "label without a name": (lambda: shard(pictures(2), [0, 5], features=CAT_DOG), BadManifest),
    "metadata that is no JSON": (lambda: _with_metadata("{"), BadManifest),
    "metadata nested without end": (lambda: _with_metadata("[" * 100_000), BadManifest),
    "labels that are no UTF-8": (
        lambda: shard(pictures(2), ["cat_cat", "dog_dog"], use_dictionary=False).replace(b"cat_cat", b"cat\xff\xfeat"),
        CorruptArchive,
    ),
    "two columns of one name": (lambda: _doubled(), BadManifest),
    "one class named": (
        lambda: shard(pictures(2), [0, 0], features={"label": {"names": ["cat"], "_type": "ClassLabel"}}),
        OneClass,
    ),
    "one class found": (lambda: shard(pictures(2), ["cat", "cat"]), OneClass),
    "cut short": (lambda: shard(pictures(2), [0, 1])[:-20], CorruptArchive),
    "damaged pages": (lambda: _damaged(shard([picture(n) * 50 for n in range(9)], list(range(9)))), CorruptArchive),
    "a bomb": (lambda: shard([picture(1), BOMBS["png"]], [0, 1]), ImageBomb),
}


def _with_metadata(text: str) -> bytes:
    table = pa.table({"image": pictures(2), "label": [0, 1]}).replace_schema_metadata({"huggingface": text})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _doubled() -> bytes:
    table = pa.Table.from_arrays(
        [pa.array(pictures(2)), pa.array([0, 1]), pa.array([1, 0])], ["image", "label", "label"]
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _damaged(data: bytes) -> bytes:
    return data[:8] + b"\xff" * 400 + data[408:]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_and_nothing_is_kept(name, tmp_path):
    make, error = REFUSED[name]
    with pytest.raises(error):
        sealed(tmp_path, make())
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


def test_several_class_columns_need_a_known_name(tmp_path):
    features = {name: {"names": ["a", "b"], "_type": "ClassLabel"} for name in ("coarse", "fine")}
    table = pa.table({"image": [{"bytes": i, "path": ""} for i in pictures(2)], "coarse": [0, 1], "fine": [1, 0]})
    meta = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}, **features}}})}
    path = tmp_path / "x.parquet"
    pq.write_table(table.replace_schema_metadata(meta), path)
    with pytest.raises(BadManifest, match="several label columns"):
        ingest(path, store=BlobStore(tmp_path / "blobs"), project="p")


def test_a_shard_is_read_by_small_batches(tmp_path):
    """One row group of 60 MB: Python never holds more than a few of its images."""
    images = [picture(n, kind="BMP", size=(200, 200)) for n in range(500)]
    (tmp_path / "upload").write_bytes(shard(images, [n % 2 for n in range(500)], compression="none"))
    del images
    tracemalloc.start()
    result = ingest(tmp_path / "upload", store=BlobStore(tmp_path / "blobs"), project="p", threads=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(result.manifest) == 500
    assert peak < 20 << 20
