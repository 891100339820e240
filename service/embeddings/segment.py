"""One immutable segment on disk: a flat FAISS index read by position, and its sorted content hashes beside it.

Both are written under a temporary name, fsynced and renamed; a reader maps them into memory.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from service.embeddings.errors import SegmentDamaged
from service.embeddings.model import WrittenSegment
from service.embeddings.protocol import HASH_BYTES, Rows

HashArray = npt.NDArray[np.void]


def as_hash_array(hashes: "list[bytes] | tuple[bytes, ...]", /) -> HashArray:
    """Hashes as one array that sorts and searches bytewise."""
    return np.frombuffer(b"".join(hashes), dtype=f"V{HASH_BYTES}")


def searchable(hashes: HashArray, /) -> npt.NDArray[np.bytes_]:
    """NumPy orders neither void nor, with trailing zeros, bytes; big-endian words in a structured view sort right."""
    return np.ascontiguousarray(hashes).view([(f"w{i}", ">u8") for i in range(4)])


@dataclass(frozen=True, slots=True)
class SegmentFiles:
    vectors: Path
    hashes: Path


def write_segment(files: SegmentFiles, hashes: list[bytes], rows: Rows, /) -> WrittenSegment:
    """Writes `rows` (one a hash, hashes distinct) sorted by hash."""
    order = sorted(range(len(hashes)), key=hashes.__getitem__)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(np.ascontiguousarray(rows[order], dtype=np.float32))
    vectors = faiss.serialize_index(index).tobytes()
    hash_bytes = b"".join(hashes[i] for i in order)
    files.vectors.parent.mkdir(parents=True, exist_ok=True)
    for path, data in ((files.vectors, vectors), (files.hashes, hash_bytes)):
        _write_atomically(path, data)
    _fsync_directory(files.vectors.parent)
    return WrittenSegment(
        n_rows=len(hashes),
        dim=rows.shape[1],
        bytes=len(vectors) + len(hash_bytes),
        vectors_sha256=hashlib.sha256(vectors).hexdigest(),
        hashes_sha256=hashlib.sha256(hash_bytes).hexdigest(),
    )


class Segment:
    """A segment opened for reading."""

    def __init__(self, files: SegmentFiles, *, n_rows: int, dim: int) -> None:
        self._files = files
        self.n_rows = n_rows
        self.dim = dim

    @cached_property
    def hashes(self) -> npt.NDArray[np.bytes_]:
        try:
            mapped = np.memmap(self._files.hashes, dtype=f"V{HASH_BYTES}", mode="r")
        except (OSError, ValueError) as error:
            raise SegmentDamaged(f"{self._files.hashes.name} cannot be read: {error}") from error
        if len(mapped) != self.n_rows:
            raise SegmentDamaged(f"{self._files.hashes.name} holds {len(mapped)} hashes, {self.n_rows} were written.")
        return searchable(mapped)

    @cached_property
    def _vectors(self) -> Rows:
        try:
            index: Any = faiss.read_index(str(self._files.vectors), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise SegmentDamaged(f"{self._files.vectors.name} cannot be read as a FAISS index.") from error
        if index.ntotal != self.n_rows or index.d != self.dim:
            raise SegmentDamaged(f"{self._files.vectors.name} is not the index that was registered.")
        self._index = index  # owns the mapping that the view points into
        view: Rows = faiss.rev_swig_ptr(index.get_xb(), self.n_rows * self.dim).reshape(self.n_rows, self.dim)
        return view

    def positions(self, wanted: npt.NDArray[np.bytes_], /) -> npt.NDArray[np.int64]:
        """Where each wanted hash lies, −1 where it does not."""
        if self.n_rows == 0:
            return np.full(len(wanted), -1, dtype=np.int64)
        at = np.searchsorted(self.hashes, wanted)
        found = self.hashes[np.minimum(at, self.n_rows - 1)] == wanted
        return np.where(found & (at < self.n_rows), at, -1).astype(np.int64)

    def rows(self, positions: npt.NDArray[np.int64], /) -> Rows:
        taken: Rows = self._vectors[positions]
        return taken


def _write_atomically(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _fsync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
