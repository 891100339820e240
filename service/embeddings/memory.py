"""The embedding store's twin in memory: the same behaviour without files or SQL, by the plainest means."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from service.embeddings.checks import check_batch, check_search
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.model import StoreKey
from service.embeddings.protocol import Metric, Neighbours, Rows


class MemoryStore:
    def __init__(self) -> None:
        self._rows: dict[StoreKey, dict[bytes, Rows]] = {}

    def missing(self, key: StoreKey, hashes: Sequence[bytes], /) -> list[bytes]:
        stored = self._rows.get(key, {})
        return [value for value in dict.fromkeys(hashes) if value not in stored]

    def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
        check_batch(hashes, rows)
        stored = self._rows.setdefault(key, {})
        for value, row in zip(hashes, rows, strict=True):
            stored.setdefault(value, np.array(row, dtype=np.float32))

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        stored = self._rows.get(key, {})
        absent = sum(value not in stored for value in hashes)
        if absent or not hashes:
            raise EmbeddingsMissing(f"{absent} of {len(hashes)} embeddings are not in the store.")
        return np.stack([stored[value] for value in hashes])

    def search(self, key: StoreKey, hashes: Sequence[bytes], queries: Rows, k: int, /, *, metric: Metric) -> Neighbours:
        first = {value: i for i, value in reversed(list(enumerate(hashes)))}
        places = sorted(first.values())
        rows = self.get(key, [hashes[i] for i in places]) if places else None
        check_search(queries, k, metric, dim=None if rows is None else rows.shape[1])
        positions = np.full((len(queries), k), -1, dtype=np.int64)
        values = np.full((len(queries), k), np.nan, dtype=np.float32)
        if rows is not None:
            for number, query in enumerate(queries.astype(np.float64)):
                near = [(_far(query, row, metric), place) for row, place in zip(rows, places, strict=True)]
                best = sorted((far, place) for far, place in near if np.isfinite(far))[:k]
                positions[number, : len(best)] = [place for _, place in best]
                values[number, : len(best)] = [far if metric == "l2" else -far for far, _ in best]
        return Neighbours(positions, values, exact=True, index="flat")


def _far(query: npt.NDArray[np.float64], row: Rows, metric: Metric) -> float:
    with np.errstate(invalid="ignore", over="ignore"):
        if metric == "l2":
            return float(np.linalg.norm(query - row))
        lengths = float(np.linalg.norm(query) * np.linalg.norm(row.astype(np.float64)))
        return -float(query @ row) / lengths if lengths else 0.0
