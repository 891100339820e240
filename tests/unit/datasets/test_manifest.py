import dataclasses
import hashlib
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from service.datasets.manifest import Manifest, Row, build_manifest, read_manifest, write_manifest

CLASSES = ("cat", "dog")


def rows(count: int = 40) -> list[Row]:
    splits = ("train", "validation", "test")
    return [
        Row(hashlib.sha256(bytes([n])).digest(), splits[n % 3], n % 2, f"é/{n}.png", 10 + n, 20) for n in range(count)
    ]


def changed(row: Row, **fields) -> list[Row]:
    every = rows()
    every[every.index(row)] = dataclasses.replace(row, **fields)
    return every


def test_a_manifest_comes_back_from_disk_as_it_was(tmp_path):
    made = build_manifest(rows(), CLASSES)
    write_manifest(made, tmp_path / "m.parquet")
    back = read_manifest(tmp_path / "m.parquet")
    assert list(back.rows()) == list(made.rows()) == sorted(rows())
    assert back.classes == CLASSES
    assert back.fingerprint == made.fingerprint
    np.testing.assert_array_equal(back.labels, [row.label for row in sorted(rows())])
    assert [bytes(row) for row in back.content_hashes] == sorted(row.content_hash for row in rows())
    assert back.splits == ("train", "validation", "test")
    stored = pq.read_schema(tmp_path / "m.parquet")
    assert stored.field("content_hash").type == pa.binary(32)
    assert pa.types.is_dictionary(stored.field("split").type)


def test_one_split_keeps_the_classes_and_its_rows():
    part = build_manifest(rows(), CLASSES).of_split("test")
    assert [row.path for row in part.rows()] == [row.path for row in sorted(rows()) if row.split == "test"]
    assert part.classes == CLASSES


def test_the_fingerprint_is_of_content_label_name_and_split():
    sealed = build_manifest(rows(), CLASSES).fingerprint
    first = rows()[0]
    shuffled = rows()
    random.Random(1).shuffle(shuffled)
    assert build_manifest(shuffled, CLASSES).fingerprint == sealed
    assert build_manifest(changed(first, path="elsewhere.png", width=1), CLASSES).fingerprint == sealed
    other_order = [dataclasses.replace(row, label=1 - row.label) for row in rows()]
    assert build_manifest(other_order, ("dog", "cat")).fingerprint == sealed
    for different in (
        build_manifest(changed(first, content_hash=bytes(32)), CLASSES),
        build_manifest(changed(first, label=1), CLASSES),
        build_manifest(changed(first, split="test"), CLASSES),
        build_manifest(rows(), ("cat", "zebra")),
        build_manifest(rows(), ("cat", "doh")),
        build_manifest(rows()[1:], CLASSES),
    ):
        assert different.fingerprint != sealed


def test_the_fingerprint_of_a_known_manifest_never_changes():
    row = Row(bytes(range(32)), "train", 0, "a.png", 1, 1)
    record = bytes(range(32)) + b"\0\0\0\3cat" + b"\0\0\0\5train"
    expected = hashlib.sha256(b"zooscout dataset 1\n" + record).hexdigest()
    assert build_manifest([row], ("cat",)).fingerprint == expected


def test_the_fingerprint_does_not_hang_on_how_the_table_lies_in_memory():
    sealed = build_manifest(rows(), CLASSES)
    by_split = [sealed.of_split(split).table for split in reversed(sealed.splits)]
    own_words = [pa.Table.from_pylist(part.to_pylist(), schema=part.schema) for part in by_split]
    for parts in (by_split, own_words, [sealed.table.slice(i, 1) for i in range(len(sealed))]):
        assert Manifest(CLASSES, pa.concat_tables(parts)).fingerprint == sealed.fingerprint
    second = Manifest(CLASSES, sealed.table.slice(1, 1))
    assert second.content_hashes.tolist() == sealed.content_hashes[1:2].tolist()
    assert Manifest(CLASSES, sealed.table.slice(0, 0)).content_hashes.shape == (0, 32)


def test_a_label_outside_the_classes_is_an_error():
    with pytest.raises(ValueError, match="outside"):
        build_manifest(rows(), ("cat",))


def test_a_manifest_changed_after_sealing_is_not_read(tmp_path):
    path = tmp_path / "m.parquet"
    write_manifest(build_manifest(rows(), CLASSES), path)
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    with pytest.raises(ValueError, match="fingerprint"):
        read_manifest(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(ValueError, match="no dataset manifest"):
        read_manifest(path)
