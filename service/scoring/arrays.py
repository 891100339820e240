"""Features that a user brings: an .npz without pickles, or Parquet. Checked here, scored by a worker."""

import math
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from service.scoring.errors import BadArrays

Array = npt.NDArray[Any]
Headers = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
NAMES = (
    "features",
    "labels",
    "source_probs",
    "background_mean",
    "background_std",
    "reference_features",
    "text_prototypes",
)


PARQUET_NAMES = ("features", "labels", "source_probs")


@dataclass(frozen=True, slots=True)
class Arrays:
    """features [N, D]; labels [N] or [N, K]; the rest is optional, and the estimators that need it say so."""

    features: Array
    labels: Array
    source_probs: Array | None = None
    background_mean: Array | None = None
    background_std: Array | None = None
    reference_features: Array | None = None
    text_prototypes: Array | None = None


def check_file(path: Path, /, *, max_bytes: int) -> None:
    """Refuses what `read_arrays` would refuse, as far as headers tell: no array is read.

    Raises:
        BadArrays: The file is neither format, holds pickles, is over the cap, or its arrays do not fit together.
    """
    if _is_npz(path):
        _check_shapes(_headers(path, max_bytes=max_bytes))
    else:
        _parquet_columns(path, max_bytes=max_bytes)


def read_arrays(path: Path, /, *, max_bytes: int) -> Arrays:
    """Reads and checks the arrays.

    Raises:
        BadArrays: As `check_file`, and where the data do not keep what their headers say.
    """
    if not _is_npz(path):
        found = _from_parquet(path, max_bytes=max_bytes)
    else:
        _check_shapes(_headers(path, max_bytes=max_bytes))
        try:
            with np.load(path, allow_pickle=False) as stored:
                found = {name: stored[name] for name in stored.files}
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
            raise BadArrays(f"The .npz cannot be read: {error}") from error
    _check_shapes({name: (array.shape, array.dtype) for name, array in found.items()})
    return Arrays(**found)


def _is_npz(path: Path) -> bool:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic not in {b"PK\x03\x04", b"PAR1"}:
        raise BadArrays("The file is neither an .npz (numpy.savez) nor Parquet.")
    return magic == b"PK\x03\x04"


def _headers(path: Path, *, max_bytes: int) -> Headers:
    """Shape and dtype of every array of an .npz."""
    found: Headers = {}
    declared = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                name = info.filename.removesuffix(".npy")
                if name not in NAMES or name == info.filename:
                    raise BadArrays(f"There is no use for '{info.filename}'; known arrays are {', '.join(NAMES)}.")
                with archive.open(info) as member:
                    version = npy.read_magic(member)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(member)
                found[name] = shape, dtype
                declared += max(info.file_size, math.prod(shape) * dtype.itemsize)
    except BadArrays:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise BadArrays(f"The .npz cannot be read: {error}") from error
    if declared > max_bytes:
        raise BadArrays(f"Unpacked, the arrays hold {declared:,} bytes; the cap is {max_bytes:,}.")
    return found


def _parquet_columns(path: Path, *, max_bytes: int) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
            columns = [name for name in PARQUET_NAMES if name in file.schema_arrow.names]
    except (pa.ArrowException, OSError) as error:
        raise BadArrays(f"The Parquet file cannot be read: {error}") from error
    if size > max_bytes:
        raise BadArrays(f"Unpacked, the columns hold {size:,} bytes; the cap is {max_bytes:,}.")
    _need(columns)
    return columns


def _from_parquet(path: Path, *, max_bytes: int) -> dict[str, Array]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _parquet_columns(path, max_bytes=max_bytes)
    try:
        with pq.ParquetFile(path) as file:
            table = file.read(columns=columns)
        return {name: _column(table[name].combine_chunks(), name) for name in columns}
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise BadArrays(f"The Parquet file cannot be read: {error}") from error


def _column(column: Any, name: str) -> Array:
    if column.null_count:
        raise BadArrays(f"Column '{name}' has {column.null_count} nulls.")
    if not hasattr(column, "flatten") or "list" not in str(column.type):
        plain: Array = column.to_numpy(zero_copy_only=False)
        return plain
    flat: Array = column.flatten().to_numpy(zero_copy_only=False)
    if len(column) == 0 or len(flat) % len(column):
        raise BadArrays(f"The rows of column '{name}' are not all of one length.")
    if any(len(row) != len(flat) // len(column) for row in column):
        raise BadArrays(f"The rows of column '{name}' are not all of one length.")
    return flat.reshape(len(column), -1)


def _need(names: Iterable[str]) -> None:
    for name in ("features", "labels"):
        if name not in names:
            raise BadArrays(f"There is no array '{name}'; needed are features [N, D] and labels [N] or [N, K].")


def _check_shapes(found: Headers) -> None:
    _need(found)
    for name, (_, dtype) in found.items():
        if dtype.kind not in "fiub":
            raise BadArrays(f"'{name}' has dtype {dtype}; numbers are needed.")
    features, labels = found["features"][0], found["labels"][0]
    if len(features) != 2 or 0 in features:
        raise BadArrays(f"features must be [N, D], not {list(features)}.")
    if len(labels) not in {1, 2} or labels[0] != features[0]:
        raise BadArrays(f"labels must be [{features[0]}] or [{features[0]}, K], not {list(labels)}.")
    expected: dict[str, tuple[int | None, ...]] = {
        "source_probs": (features[0], None),
        "background_mean": (features[1],),
        "background_std": (features[1],),
        "reference_features": (None, features[1]),
        "text_prototypes": (None, features[1]),
    }
    for name, wanted in expected.items():
        if name in found and (0 in found[name][0] or not _fits(found[name][0], wanted)):
            words = ", ".join("*" if side is None else str(side) for side in wanted)
            raise BadArrays(f"{name} must be [{words}], not {list(found[name][0])}.")
    if ("background_mean" in found) != ("background_std" in found):
        raise BadArrays("background_mean and background_std are needed together.")


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w is None or w == s for s, w in zip(shape, wanted, strict=True))
