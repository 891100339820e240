"""Each image's nearest others under one model, and which of them are so near that they count as copies."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.core.errors import Cancelled
from service.embeddings.model import StoreKey
from service.embeddings.protocol import EmbeddingStore, Rows

CHUNK_BYTES = 128 << 20
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.int64]

# Measured on photographs, drawings, silhouettes, X-rays and video frames under three models: see docs/inspections.md.
MAX_RELATIVE_DISTANCE = 0.3
MIN_CENTRED_COSINE = 0.85
ROUNDING = 1e-6  # of a cosine in float32


@dataclass(frozen=True, slots=True)
class Near:
    """`positions` and cosine distances (1 - similarity) `[N, k]`, nearest first, -1 and NaN where there is none."""

    positions: Positions
    distances: Floats
    exact: bool
    index: str

    @property
    def typical(self) -> float:
        """The median distance of an image's farthest listed neighbour: the scale of this model on this dataset."""
        last = self.distances[:, -1]
        return float(np.nanmedian(last)) if np.isfinite(last).any() else 0.0


class Embedded:
    """The stored features of some images, read a chunk at a time."""

    def __init__(
        self, store: EmbeddingStore, key: StoreKey, hashes: Sequence[bytes], cancelled: Callable[[], bool], /
    ) -> None:
        self._store = store
        self._key = key
        self._hashes = hashes
        self._cancelled = cancelled
        self._mean: Floats | None = None

    def rows(self, numbers: Positions, /) -> Rows:
        return self._store.get(self._key, [self._hashes[number] for number in numbers])

    def chunks(self, numbers: Positions, /, *, rows_an_item: int = 1) -> Iterator[Positions]:
        if len(numbers) == 0:
            return
        bytes_an_item = 8 * rows_an_item * self.rows(numbers[:1]).shape[1]
        step = max(1, CHUNK_BYTES // bytes_an_item)
        for start in range(0, len(numbers), step):
            if self._cancelled():
                raise Cancelled("The inspection was told to stop.")
            yield numbers[start : start + step]

    def nearest(self, asked: Positions, among: Positions, k: int, /) -> Near:
        """The k nearest of `among` to each of `asked`, itself left out."""
        listed = min(k, len(among))
        places = np.full((len(asked), listed), -1, dtype=np.int64)
        distances = np.full((len(asked), listed), np.nan)
        exact, index, start = True, "flat", 0
        hashes = [self._hashes[number] for number in among]
        for part in self.chunks(asked):
            found = self._store.search(self._key, hashes, self.rows(part), min(listed + 1, len(among)), metric="cosine")
            exact, index = exact and found.exact, found.index
            at = np.where(found.positions < 0, -1, among[np.maximum(found.positions, 0)])
            # Its own place is not always the first: a copy is as near.
            other = (at != part[:, None]) & (at >= 0)
            order = np.argsort(~other, axis=1, kind="stable")[:, :listed]
            kept = np.take_along_axis(other, order, axis=1)
            end = start + len(part)
            places[start:end, : order.shape[1]] = np.where(kept, np.take_along_axis(at, order, axis=1), -1)
            far = 1.0 - np.take_along_axis(found.values.astype(np.float64), order, axis=1)
            distances[start:end, : order.shape[1]] = np.where(kept, np.maximum(far, 0.0), np.nan)
            start = end
        if listed == len(among) and listed > 1 and np.isin(asked, among).all():
            places, distances = places[:, :-1], distances[:, :-1]  # the place that was its own
        return Near(places, distances, exact, index)

    def centred_cosines(self, first: Positions, second: Positions, /) -> Floats:
        """The cosine of two images' deviations from the dataset's mean, which all of its images share no part of."""
        result = np.empty(len(first))
        for part in self.chunks(np.arange(len(first)), rows_an_item=4):
            a, b = (self.rows(numbers[part]).astype(np.float64) - self._centre() for numbers in (first, second))
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            same = (a == b).all(axis=1)
            result[part] = np.where(same, 1.0, (a * b).sum(axis=1) / np.where(norms == 0, 1.0, norms))
        return result

    def _centre(self) -> Floats:
        if self._mean is None:
            numbers = np.arange(len(self._hashes))
            sums = [self.rows(part).sum(axis=0, dtype=np.float64) for part in self.chunks(numbers)]
            self._mean = np.sum(sums, axis=0) / len(numbers)
        return self._mean


@dataclass(frozen=True, slots=True)
class Copies:
    """Pairs of images that count as copies of one another."""

    first: Positions
    second: Positions
    similarities: Floats


def copies(embedded: Embedded, asked: Positions, near: Near, typical: float, /) -> Copies:
    """The pairs in `near` that pass both bounds."""
    row, column = np.nonzero((near.positions >= 0) & (near.distances <= MAX_RELATIVE_DISTANCE * typical + ROUNDING))
    first, second = asked[row], near.positions[row, column]
    alike = embedded.centred_cosines(first, second) >= MIN_CENTRED_COSINE
    return Copies(first[alike], second[alike], 1.0 - near.distances[row, column][alike])
