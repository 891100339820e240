"""The embedding store: immutable segments wherever files can lie, one SQL row each."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from service.core.db import Database
from service.core.ids import new_id
from service.embeddings import derived, repository
from service.embeddings.checks import check_batch, check_search
from service.embeddings.errors import EmbeddingsMissing, SegmentDamaged
from service.embeddings.files import Files, LocalFiles
from service.embeddings.model import SegmentInfo, Storage, StoreKey
from service.embeddings.neighbours import flat
from service.embeddings.protocol import Metric, Neighbours, Positions, Rows
from service.embeddings.segment import Segment, as_hash_array, write_segment

NOWHERE = -1
OPEN_SEGMENTS = 256  # each holds a file descriptor and two mappings
PLANS = 5
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Located:
    """Where each of the wanted rows lies: the number of its segment, and its position there."""

    segments: Sequence[SegmentInfo]
    number: Positions
    position: Positions
    opened: Callable[[SegmentInfo], Segment]

    @property
    def dim(self) -> int:
        return self.segments[0].dim

    def read(self, wanted: Positions | None = None, /) -> Rows:
        """The rows at these places of what was located, or all."""
        number = self.number if wanted is None else self.number[wanted]
        position = self.position if wanted is None else self.position[wanted]
        present: list[int] = np.flatnonzero(np.bincount(number, minlength=1)).tolist()
        result = np.empty((len(number), self.dim), dtype=np.float32)
        for i in present:
            take = np.flatnonzero(number == i)
            segment = self.opened(self.segments[i])
            if take[-1] - take[0] == len(take) - 1:
                segment.rows(position[take], into=result[take[0] : take[-1] + 1])
            else:
                result[take] = segment.rows(position[take])
        return result


class SegmentStore:
    """A segment's file is written first, its row second: a file that no row names is harmless."""

    def __init__(
        self, files: Files, database: Database, /, *, storage: Storage = "float32", derived_root: Path | None = None
    ) -> None:
        self.files = files
        self._derived = derived_root
        self._database = database
        self._storage = storage
        self._open: OrderedDict[str, Segment] = OrderedDict()
        self._lock = threading.Lock()

    def missing(self, key: StoreKey, hashes: Sequence[bytes], /) -> list[bytes]:
        distinct = list(dict.fromkeys(hashes))
        absent = self._planned(lambda: self._locate(key, distinct)).number == NOWHERE
        return [value for value, gone in zip(distinct, absent, strict=True) if gone]

    def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
        check_batch(hashes, rows)
        first = {value: i for i, value in reversed(list(enumerate(hashes)))}
        new = self.missing(key, hashes)
        if not new:
            return
        segment_id = new_id("seg")
        written = write_segment(
            self.files, key, segment_id, new, rows[[first[value] for value in new]], storage=self._storage
        )
        with self._database.write() as session:
            repository.add_segment(session, segment_id, key, written)

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        return self._planned(lambda: self._all_of(key, hashes).read())

    def search(self, key: StoreKey, hashes: Sequence[bytes], queries: Rows, k: int, /, *, metric: Metric) -> Neighbours:
        check_search(queries, k, metric, dim=None)
        if not hashes:
            return _nothing(len(queries), k)
        return self._planned(lambda: self._search(key, hashes, queries, k, metric))

    def _search(self, key: StoreKey, hashes: Sequence[bytes], queries: Rows, k: int, metric: Metric) -> Neighbours:
        distinct = list(dict.fromkeys(hashes))
        located = self._all_of(key, distinct)
        check_search(queries, k, metric, dim=located.dim)
        by_index = self._ask_index(key, distinct, located, queries, k, metric)
        if by_index is not None:
            positions, values, index = by_index
        else:
            (positions, values), index = flat(located.read, len(distinct), queries, k, metric=metric), "flat"
        if len(distinct) < len(hashes):
            first = {value: i for i, value in reversed(list(enumerate(hashes)))}
            place = np.array([first[value] for value in distinct])
            positions = np.where(positions == NOWHERE, NOWHERE, place[positions])
        return Neighbours(positions, values, exact=by_index is None, index=index)

    def _ask_index(
        self, key: StoreKey, distinct: list[bytes], located: _Located, queries: Rows, k: int, metric: Metric
    ) -> tuple[Positions, Rows, str] | None:
        """By the derived index of these images, where there is one or so many questions that making it pays."""
        if self._derived is None or len(distinct) <= derived.INDEX_ROWS:
            return None
        order = np.array(sorted(range(len(distinct)), key=distinct.__getitem__))
        path = derived.index_file(self._derived, key, [distinct[i] for i in order], metric)
        if not path.exists():
            if len(distinct) * len(queries) < derived.WORTH_MAKING_PAIRS:
                return None
            derived.make_index(path, lambda at: located.read(order[at]), len(distinct), located.dim, metric)
        return derived.ask(derived.open_index(path), located.read, queries, k, metric=metric, place=order)

    def _locate(self, key: StoreKey, hashes: Sequence[bytes]) -> _Located:
        wanted = as_hash_array(hashes)
        number = np.full(len(hashes), NOWHERE, dtype=np.int64)
        position = np.zeros(len(hashes), dtype=np.int64)
        with self._database.read() as session:
            segments = repository.active_segments(session, key) if hashes else []
        pending = np.arange(len(hashes))
        for i, info in enumerate(segments):
            if not len(pending):
                break
            at = self._opened(info).positions(wanted[pending])
            found = at >= 0
            number[pending[found]], position[pending[found]] = i, at[found]
            pending = pending[~found]
        return _Located(segments, number, position, self._opened)

    def forget_derived(self, project_id: str, /, *, horizon: float) -> None:
        """Removes indices that were last used before `horizon`."""
        if self._derived is not None:
            derived.forget(self._derived, project_id, horizon=horizon)

    def _all_of(self, key: StoreKey, hashes: Sequence[bytes]) -> _Located:
        located = self._locate(key, hashes)
        absent = int((located.number == NOWHERE).sum())
        if absent or not hashes:
            raise EmbeddingsMissing(f"{absent} of {len(hashes)} embeddings are not in the store.")
        return located

    def _opened(self, info: SegmentInfo) -> Segment:
        with self._lock:
            segment = self._open.pop(info.id, None) or Segment(self.files, info)
            self._open[info.id] = segment
            while len(self._open) > OPEN_SEGMENTS:
                self._open.popitem(last=False)
        return segment

    def _planned(self, attempt: Callable[[], T]) -> T:
        """A segment may be collected between the look at its row and at its file: then its row is gone as well."""
        gone: FileNotFoundError | None = None
        for _ in range(PLANS):
            try:
                return attempt()
            except FileNotFoundError as error:
                gone = error
                with self._lock:
                    self._open.clear()
        raise SegmentDamaged(
            f"A segment's file is gone ({Path(str(gone and gone.filename)).name}). "
            "`zooscout store verify` takes it out of use and embeds its images again."
        ) from gone


class LocalStore(SegmentStore):
    """Segments in a folder of this machine."""

    def __init__(self, root: Path, database: Database, /) -> None:
        super().__init__(LocalFiles(root), database)


def _nothing(n_queries: int, k: int) -> Neighbours:
    values = np.full((n_queries, k), np.nan, dtype=np.float32)
    return Neighbours(np.full((n_queries, k), NOWHERE), values, exact=True, index="flat")
