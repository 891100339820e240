"""The embedding store on local files and SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.core.db import Database
from service.core.ids import new_id
from service.embeddings import repository
from service.embeddings.checks import check_batch, check_search
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.neighbours import flat
from service.embeddings.protocol import Metric, Neighbours, Positions, Rows, StoreKey
from service.embeddings.segment import Segment, SegmentFiles, as_hash_array, searchable, write_segment

NOWHERE = -1


def segment_files(root: Path, key: StoreKey, segment_id: str, /) -> SegmentFiles:
    folder = root / key.project_id / key.extractor_id[:2] / key.extractor_id
    return SegmentFiles(folder / f"{segment_id}.{key.kind}.faiss", folder / f"{segment_id}.{key.kind}.hashes")


@dataclass(frozen=True, slots=True)
class _Located:
    """Where each of the wanted rows lies: the number of its segment, and its position there."""

    segments: Sequence[Segment]
    number: Positions
    position: Positions

    def absent(self) -> int:
        return int((self.number == NOWHERE).sum())

    def read(self, wanted: Positions | None = None, /) -> Rows:
        """The rows at these places of what was located, or all."""
        number = self.number if wanted is None else self.number[wanted]
        position = self.position if wanted is None else self.position[wanted]
        result = np.empty((len(number), self.segments[0].dim), dtype=np.float32)
        for i, segment in enumerate(self.segments):
            take = number == i
            if take.all():
                return segment.rows(position)
            if take.any():
                result[take] = segment.rows(position[take])
        return result


class LocalStore:
    """Segments as files under `root`, one SQL row each: the file is written first, its row second."""

    def __init__(self, root: Path, database: Database) -> None:
        self._root = root
        self._database = database
        self._open: dict[str, Segment] = {}

    def missing(self, key: StoreKey, hashes: Sequence[bytes], /) -> list[bytes]:
        distinct = list(dict.fromkeys(hashes))
        absent = self._locate(key, distinct).number == NOWHERE
        return [value for value, gone in zip(distinct, absent, strict=True) if gone]

    def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
        check_batch(hashes, rows)
        first = {value: i for i, value in reversed(list(enumerate(hashes)))}
        new = self.missing(key, hashes)
        if not new:
            return
        segment_id = new_id("seg")
        written = write_segment(segment_files(self._root, key, segment_id), new, rows[[first[value] for value in new]])
        with self._database.write() as session:
            repository.add_segment(session, segment_id, key, written)

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        return self._all_of(key, hashes).read()

    def search(self, key: StoreKey, hashes: Sequence[bytes], queries: Rows, k: int, /, *, metric: Metric) -> Neighbours:
        distinct = list(dict.fromkeys(hashes))
        located = self._all_of(key, distinct) if distinct else None
        check_search(queries, k, metric, dim=located.segments[0].dim if located else None)
        if located is None:
            nothing = np.full((len(queries), k), np.nan, dtype=np.float32)
            return Neighbours(np.full((len(queries), k), NOWHERE), nothing, exact=True, index="flat")
        positions, values = flat(located.read, len(distinct), queries, k, metric=metric)
        if len(distinct) < len(hashes):
            first = {value: i for i, value in reversed(list(enumerate(hashes)))}
            place = np.array([first[value] for value in distinct])
            positions = np.where(positions == NOWHERE, NOWHERE, place[positions])
        return Neighbours(positions, values, exact=True, index="flat")

    def _locate(self, key: StoreKey, hashes: Sequence[bytes]) -> _Located:
        wanted = searchable(as_hash_array(list(hashes)))
        number = np.full(len(hashes), NOWHERE, dtype=np.int64)
        position = np.zeros(len(hashes), dtype=np.int64)
        segments = self._segments(key) if len(hashes) else []
        for i, segment in enumerate(segments):
            at = segment.positions(wanted)
            take = (number == NOWHERE) & (at >= 0)
            number[take], position[take] = i, at[take]
        return _Located(segments, number, position)

    def _all_of(self, key: StoreKey, hashes: Sequence[bytes]) -> _Located:
        located = self._locate(key, hashes)
        absent = located.absent()
        if absent or not hashes:
            raise EmbeddingsMissing(f"{absent} of {len(hashes)} embeddings are not in the store.")
        return located

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
