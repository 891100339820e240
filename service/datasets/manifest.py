"""The sealed list of a dataset's images: one row an image and split, sorted, with a fingerprint.

The fingerprint hashes class *names*, not numbers. The number is only the name's place in the sorted list, so renaming
'cat' to 'zebra' would change it and renaming 'cat' to 'car' would not, although text prototypes score both differently.
Under names every renaming is another dataset, which costs new scores and no new embedding: those go by content.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from service.datasets.names import Split

HASH_BYTES = 32
_FORMAT = b"zooscout.manifest"
_VERSION = 1
_FINGERPRINT_PREFIX = b"zooscout dataset 1\n"
_SCHEMA = pa.schema(
    [
        pa.field("content_hash", pa.binary(HASH_BYTES), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("split", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """`label` counts within the manifest's `classes`. The order of the fields is the order of the rows."""

    content_hash: bytes
    split: Split
    label: int
    path: str
    width: int
    height: int


@dataclass(frozen=True)  # no slots: the columns are cached
class Manifest:
    classes: tuple[str, ...]
    table: Any  # pyarrow.Table, which ships no types

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """Those that hold an image, in the order train, validation, test."""
        present = set(self.table["split"].unique().to_pylist())
        return tuple(split for split in ("train", "validation", "test") if split in present)

    @cached_property
    def content_hashes(self) -> npt.NDArray[np.uint8]:
        """`[N, 32]`, sorted; the same image in two splits stands there twice."""
        column = self.table["content_hash"].combine_chunks()
        if not len(column):
            return np.empty((0, HASH_BYTES), dtype=np.uint8)
        flat = np.frombuffer(column.buffers()[1], dtype=np.uint8).reshape(-1, HASH_BYTES)
        return flat[column.offset : column.offset + len(column)]

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """`[N]`, in 0..C-1."""
        return np.asarray(self.table["label"].to_numpy(), dtype=np.int64)

    def of_split(self, split: Split, /) -> "Manifest":
        """The rows of one split, under the same classes."""
        wanted = pa.compute.equal(self.table["split"].cast(pa.string()), split)
        return Manifest(self.classes, self.table.filter(wanted))

    def rows(self) -> Iterator[Row]:
        for batch in self.table.to_batches(max_chunksize=4096):
            columns = (
                batch[name].to_pylist() for name in ("content_hash", "split", "label", "path", "width", "height")
            )
            for values in zip(*columns, strict=True):
                yield Row(*values)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the sorted (content_hash, class name, split); neither paths nor sizes count."""
        digest = hashlib.sha256(_FINGERPRINT_PREFIX)
        names = [_sized(name) for name in self.classes]
        split = self.table["split"].combine_chunks()
        splits = [_sized(name) for name in split.dictionary.to_pylist()]
        lines = sorted(
            (content_hash.tobytes(), self.classes[label], splits[place], names[label])
            for content_hash, label, place in zip(
                self.content_hashes, self.labels.tolist(), split.indices.to_numpy().tolist(), strict=True
            )
        )
        for content_hash, _, ending, name in lines:
            digest.update(content_hash + name + ending)
        return digest.hexdigest()


def _sized(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def build_manifest(rows: Iterable[Row], classes: tuple[str, ...], /) -> Manifest:
    """Sorts the rows. Raises ValueError where a label is outside the classes."""
    ordered = sorted(rows)
    if any(not 0 <= row.label < len(classes) for row in ordered):
        raise ValueError("A label lies outside the manifest's classes.")
    columns = {field.name: [getattr(row, field.name) for row in ordered] for field in _SCHEMA}
    return Manifest(classes, pa.table(columns, schema=_SCHEMA))


def write_manifest(manifest: Manifest, path: Path, /) -> None:
    """Parquet; the class names stand in the schema's metadata. The caller names a temporary file and renames it."""
    header = {"version": _VERSION, "classes": list(manifest.classes), "fingerprint": manifest.fingerprint}
    table = manifest.table.replace_schema_metadata({_FORMAT: json.dumps(header, ensure_ascii=False).encode()})
    pq.write_table(table, path, compression="zstd", use_dictionary=["split"], store_schema=True)


def read_manifest(path: Path, /) -> Manifest:
    """Raises ValueError where the file is no manifest of this version, or was changed since it was sealed."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    header = json.loads((table.schema.metadata or {}).get(_FORMAT, b"{}"))
    if header.get("version") != _VERSION:
        raise ValueError(f"'{path.name}' is no dataset manifest of version {_VERSION}.")
    manifest = Manifest(tuple(header["classes"]), table.replace_schema_metadata(None).cast(_SCHEMA))
    if manifest.fingerprint != header["fingerprint"]:
        raise ValueError(f"'{path.name}' does not match its fingerprint.")
    return manifest
