"""One immutable segment: a flat FAISS index read by position, and its sorted content hashes beside it."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from service.embeddings.errors import SegmentDamaged
from service.embeddings.files import Files, digest_of
from service.embeddings.model import SegmentInfo, SegmentNames, Storage, StoreKey, WrittenSegment
from service.embeddings.protocol import HASH_BYTES, Positions, Rows

HashArray = npt.NDArray[np.uint8]  # [N, 32]
HALF_ROUNDING = 2.0**-11  # the relative error of a number in float16's normal range
_WORD = np.dtype(">u8")


def as_hash_array(hashes: Sequence[bytes], /) -> HashArray:
    return np.frombuffer(b"".join(hashes), dtype=np.uint8).reshape(-1, HASH_BYTES)


def write_segment(
    files: Files, key: StoreKey, segment_id: str, hashes: Sequence[bytes], rows: Rows, /, *, storage: Storage
) -> WrittenSegment:
    """Writes `rows` (one a hash, hashes distinct) sorted by hash; in float32 where float16 would not hold them."""
    names = SegmentNames.of(key, segment_id)
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    in_order = order == list(range(len(hashes)))
    ordered = np.ascontiguousarray(rows if in_order else rows[order], dtype=np.float32)
    halves = in_half(ordered) if storage == "float16" else None
    vectors, sorted_hashes = files.scratch(names.vectors), files.scratch(names.hashes)
    write_index(_index(ordered, halves), vectors)
    sorted_hashes.write_bytes(b"".join(hashes[i] for i in order))
    about = digest_of(vectors), digest_of(sorted_hashes)
    files.publish(names.vectors, vectors)
    files.publish(names.hashes, sorted_hashes)
    return WrittenSegment(
        n_rows=len(hashes),
        dim=rows.shape[1],
        storage="float32" if halves is None else "float16",
        bytes=sum(digest.size for digest in about),
        vectors_sha256=about[0].sha256,
        hashes_sha256=about[1].sha256,
    )


def write_index(index: Any, path: Path, /) -> None:
    """Raises OSError where the disk is full or away: FAISS says RuntimeError, which a bug would be as well."""
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:
        raise OSError(f"{path.name} could not be written: {error}") from error


def in_half(rows: Rows, /) -> npt.NDArray[np.float16] | None:
    """Rows in float16, or None where one would lose more than its rounding: too large, too small, not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        halves = rows.astype(np.float16)
        lost = rows - halves
        error = np.einsum("ij,ij->i", lost, lost, dtype=np.float64)
        length = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        held: bool = bool((error <= HALF_ROUNDING**2 * length).all())
    return halves if held else None


def _index(rows: Rows, halves: npt.NDArray[np.float16] | None) -> Any:
    dim = rows.shape[1]
    index: Any
    if halves is None:
        index = faiss.IndexFlatL2(dim)
        index.add(rows)
    else:
        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
        # FAISS rounds ties its own way on some processors: what is already a float16 it keeps as it is.
        index.add(halves.astype(np.float32))
    return index


class Segment:
    """A segment opened for reading. Its files are fetched and mapped when they are first needed."""

    def __init__(self, files: Files, info: SegmentInfo) -> None:
        self._files = files
        self._names = SegmentNames.of(info.key, info.id)
        self.info = info

    @cached_property
    def hashes(self) -> HashArray:
        path = self._files.local(self._names.hashes, self.info.hashes_sha256)
        if path.stat().st_size != self.info.n_rows * HASH_BYTES:
            raise self._damaged(path, f"{path.stat().st_size} bytes instead of {self.info.n_rows * HASH_BYTES}")
        return np.memmap(path, dtype=np.uint8, mode="r", shape=(self.info.n_rows, HASH_BYTES))

    @cached_property
    def _first_words(self) -> npt.NDArray[np.uint64]:
        words: npt.NDArray[np.uint64] = _words(self.hashes, 1)[:, 0].astype(np.uint64)
        return words

    @cached_property
    def _vectors(self) -> Any:
        path = self._files.local(self._names.vectors, self.info.vectors_sha256)
        path.stat()  # FAISS does not say whether the file is gone or bad
        try:
            index: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise self._damaged(path, "no FAISS index") from error
        kind: Any = faiss.IndexFlat if self.info.storage == "float32" else faiss.IndexScalarQuantizer
        shape = (self.info.n_rows, self.info.dim)
        if not isinstance(index, kind) or (index.ntotal, index.d) != shape:
            raise self._damaged(path, "another index than the one that was registered")
        return index

    def positions(self, wanted: HashArray, /) -> Positions:
        """Where each wanted hash lies, −1 where it does not."""
        n = self.info.n_rows
        if n == 0:
            return np.full(len(wanted), -1, dtype=np.int64)
        first = _words(wanted, 1)[:, 0].astype(np.uint64)
        at = np.minimum(np.searchsorted(self._first_words, first), n - 1)
        same = (self.hashes[at] == wanted).all(axis=1)
        # A hash that shares its first eight bytes with another lies further on; NumPy's own order of all 32 is slow.
        shared = ~same & (self._first_words[at] == first)
        if shared.any():
            at[shared] = np.minimum(np.searchsorted(_sortable(self.hashes), _sortable(wanted[shared])), n - 1)
            same[shared] = (self.hashes[at[shared]] == wanted[shared]).all(axis=1)
        return np.where(same, at, -1).astype(np.int64)

    def rows(self, positions: Positions, /, *, into: Rows | None = None) -> Rows:
        """Those rows, written to `into` where it is given."""
        n = len(positions)
        result = np.empty((n, self.info.dim), dtype=np.float32) if into is None else into
        index, numbers = self._vectors, self.info.n_rows * self.info.dim
        # A view into the mapping, which the index owns: neither leaves this function. Of bytes, for the numbers lie at
        # an odd offset: NumPy copies such ones slowly, and whole files of them before it takes some.
        view: Any = (
            faiss.rev_swig_ptr(index.get_xb(), numbers)
            if self.info.storage == "float32"
            else faiss.rev_swig_ptr(index.codes.data(), 2 * numbers)
        )
        stored = view.view(np.uint8).reshape(self.info.n_rows, -1)
        taken = result if self.info.storage == "float32" else np.empty(result.shape, dtype=np.float16)
        if n > 0 and positions[-1] - positions[0] == n - 1 and bool((np.diff(positions) == 1).all()):
            np.copyto(taken.view(np.uint8), stored[positions[0] : positions[0] + n])
        else:
            np.take(stored, positions, axis=0, out=taken.view(np.uint8), mode="clip")  # "raise" would copy once more
        if taken is not result:
            np.copyto(result, taken)
        return result

    def _damaged(self, path: Path, found: str) -> SegmentDamaged:
        return SegmentDamaged(
            f"{path.name} is {found}. `zooscout store verify` takes it out of use and embeds its images again."
        )


def _words(hashes: HashArray, count: int) -> npt.NDArray[np.void]:
    return np.ascontiguousarray(hashes[:, : count * _WORD.itemsize]).view(_WORD)


def _sortable(hashes: HashArray) -> npt.NDArray[np.void]:
    """NumPy orders neither void nor, with trailing zeros, bytes; big-endian words in a structured view sort right."""
    return np.ascontiguousarray(hashes).view([(f"w{i}", ">u8") for i in range(4)])[:, 0]
