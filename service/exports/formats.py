"""A selection as a stream of bytes: Parquet by row groups, or an .npz that numpy reads without pickles.

Memory holds the manifest and a few thousand rows of features, whatever the dataset's size.
"""

import zipfile
from collections.abc import Iterable, Iterator
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.lib import format as npy

from service.datasets.manifest import HASH_BYTES
from service.exports.names import Format
from service.exports.selection import ROWS_AT_ONCE, Selection

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # a zip must name a time; the same export is the same bytes


def stream(selection: Selection, fmt: Format, /) -> Iterator[bytes]:
    """The file's bytes, in order."""
    match fmt:
        case "parquet":
            return _parquet(selection)
        case "npz":
            return _npz(selection)
        case _:
            assert_never(fmt)


class _Pipe:
    """What a writer of files writes into, to be taken out meanwhile."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def _parquet(selection: Selection) -> Iterator[bytes]:
    """Columns content_hash, path, label, class_name, split, features (a list of D float32); a row group a batch."""
    pipe = _Pipe()
    writer = None
    classes = pa.array(selection.manifest.classes, pa.string())
    for rows, features in selection.batches():
        label = rows["label"].combine_chunks()
        table = pa.table(
            {
                "content_hash": rows["content_hash"],
                "path": rows["path"],
                "label": label,
                "class_name": pa.DictionaryArray.from_arrays(label, classes),
                "split": rows["split"],
                "features": pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1]),
            }
        )
        if writer is None:
            writer = pq.ParquetWriter(
                pa.PythonFile(pipe, mode="w"), table.schema, use_dictionary=["class_name", "split"]
            )
        writer.write_table(table, row_group_size=ROWS_AT_ONCE)
        yield pipe.take()
    if writer is not None:
        writer.close()
        yield pipe.take()


def _npz(selection: Selection) -> Iterator[bytes]:
    """Arrays content_hash [N, 32], path, label [N] with their classes, split, and features [N, D]."""
    pipe = _Pipe()
    table, n = selection.manifest.table, len(selection.manifest)
    batches = selection.batches()
    first = next(batches)

    def features() -> Iterator[npt.NDArray[Any]]:
        yield first[1]
        for _, rows in batches:
            yield rows

    def parts(column: str, dtype: str) -> Iterator[npt.NDArray[Any]]:
        for batch in table.select([column]).to_batches(max_chunksize=ROWS_AT_ONCE):
            yield np.array(batch[column].to_pylist(), dtype=dtype)

    def hashes() -> Iterator[npt.NDArray[Any]]:
        for batch in table.select(["content_hash"]).to_batches(max_chunksize=ROWS_AT_ONCE):
            yield np.frombuffer(b"".join(batch["content_hash"].to_pylist()), np.uint8)

    classes = np.array(selection.manifest.classes, dtype=np.str_)
    path = f"<U{max(1, pc.max(pc.utf8_length(table['path'])).as_py())}"
    members: list[tuple[str, str, tuple[int, ...], Iterable[npt.NDArray[Any]]]] = [
        ("content_hash", "|u1", (n, HASH_BYTES), hashes()),
        ("path", path, (n,), parts("path", path)),
        ("label", "<i8", (n,), parts("label", "<i8")),
        ("classes", classes.dtype.str, classes.shape, [classes]),
        ("split", "<U10", (n,), parts("split", "<U10")),
        ("features", "<f4", (n, first[1].shape[1]), features()),
    ]
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_STORED) as archive:
        for name, dtype, shape, arrays in members:
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _LONG_AGO), "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, {"descr": dtype, "fortran_order": False, "shape": shape})
                for array in arrays:
                    member.write(np.ascontiguousarray(array, dtype=dtype).tobytes())
                    yield pipe.take()
    yield pipe.take()
