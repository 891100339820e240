"""The embedding store on local files and SQL, and its twin in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from service.core.db import Database
from service.core.ids import new_id
from service.embeddings import repository
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.protocol import HASH_BYTES, Rows, StoreKey
from service.embeddings.segment import Segment, SegmentFiles, as_hash_array, searchable, write_segment


def segment_files(root: Path, key: StoreKey, segment_id: str, /) -> SegmentFiles:
    folder = root / key.project_id / key.extractor_id[:2] / key.extractor_id
    return SegmentFiles(folder / f"{segment_id}.{key.kind}.faiss", folder / f"{segment_id}.{key.kind}.hashes")


class LocalStore:
    """Segments as files under `root`, one SQL row each: the file is written first, its row second."""

    def __init__(self, root: Path, database: Database) -> None:
        self._root = root
        self._database = database
        self._open: dict[str, Segment] = {}

    def missing(self, key: StoreKey, hashes: Sequence[bytes], /) -> list[bytes]:
        distinct = list(dict.fromkeys(hashes))
        if not distinct:
            return []
        wanted = searchable(as_hash_array(distinct))
        absent = np.ones(len(distinct), dtype=bool)
        for segment in self._segments(key):
            absent &= segment.positions(wanted) < 0
        return [value for value, gone in zip(distinct, absent, strict=True) if gone]

    def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
        _check(hashes, rows)
        first = {value: i for i, value in reversed(list(enumerate(hashes)))}
        new = self.missing(key, hashes)
        if not new:
            return
        segment_id = new_id("seg")
        written = write_segment(segment_files(self._root, key, segment_id), new, rows[[first[value] for value in new]])
        with self._database.write() as session:
            repository.add_segment(session, segment_id, key, written)

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        wanted = searchable(as_hash_array(list(hashes)))
        result: Rows | None = None
        pending = np.ones(len(hashes), dtype=bool)
        for segment in self._segments(key):
            positions = segment.positions(wanted)
            take = pending & (positions >= 0)
            if not take.any():
                continue
            if result is None:
                result = np.empty((len(hashes), segment.dim), dtype=np.float32)
            result[take] = segment.rows(positions[take])
            pending &= ~take
        if result is None or pending.any():
            raise EmbeddingsMissing(f"{int(pending.sum())} of {len(hashes)} embeddings are not in the store.")
        return result

    def _segments(self, key: StoreKey) -> list[Segment]:
        with self._database.read() as session:
            infos = repository.active_segments(session, key)
        segments = []
        for info in infos:
            if info.id not in self._open:
                files = segment_files(self._root, key, info.id)
                self._open[info.id] = Segment(files, n_rows=info.n_rows, dim=info.dim)
            segments.append(self._open[info.id])
        return segments


class MemoryStore:
    """The same behaviour without files or SQL."""

    def __init__(self) -> None:
        self._rows: dict[StoreKey, dict[bytes, Rows]] = {}

    def missing(self, key: StoreKey, hashes: Sequence[bytes], /) -> list[bytes]:
        stored = self._rows.get(key, {})
        return [value for value in dict.fromkeys(hashes) if value not in stored]

    def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
        _check(hashes, rows)
        stored = self._rows.setdefault(key, {})
        for value, row in zip(hashes, rows, strict=True):
            stored.setdefault(value, np.array(row, dtype=np.float32))

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        stored = self._rows.get(key, {})
        absent = sum(value not in stored for value in hashes)
        if absent or not hashes:
            raise EmbeddingsMissing(f"{absent} of {len(hashes)} embeddings are not in the store.")
        return np.stack([stored[value] for value in hashes])


def _check(hashes: Sequence[bytes], rows: Rows) -> None:
    if rows.ndim != 2 or len(rows) != len(hashes):
        raise ValueError(f"one row a content hash is needed: {len(hashes)} hashes, rows of shape {rows.shape}")
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ValueError("a content hash is 32 bytes")
