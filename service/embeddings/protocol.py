"""What an embedding store does, whoever keeps the bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from service.embeddings.model import HASH_BYTES as HASH_BYTES
from service.embeddings.model import StoreKey as StoreKey

Rows = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Metric = Literal["cosine", "l2"]
METRICS: tuple[Metric, ...] = ("cosine", "l2")


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest stored rows of each query, nearest first."""

    positions: Positions  # [M, k] into the hashes that were given, -1 where there are fewer than k
    values: Rows  # [M, k] cosine similarity (1 is nearest) or Euclidean distance (0 is nearest), NaN beside -1
    exact: bool  # each query was compared with every row
    index: str  # "flat", or the derived index that was asked instead


class EmbeddingStore(Protocol):
    def missing(self, key: StoreKey, hashes: Sequence[bytes], /) -> list[bytes]:
        """The content hashes that have no embedding yet, each once, in the order given."""

    def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
        """Stores one row a hash. Rows already stored stay as they are; a hash given twice is stored once."""

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        """The rows in the order of `hashes`, repeats included.

        Raises:
            EmbeddingsMissing: One of them is not stored.
        """

    def search(self, key: StoreKey, hashes: Sequence[bytes], queries: Rows, k: int, /, *, metric: Metric) -> Neighbours:
        """The k nearest of the rows that `hashes` name, and of no other, to each query `[M, D]`.

        A hash given twice is one candidate, at its first position. A query that is itself stored finds itself: leave
        it out by its position, since of several equal rows any may come first in `hashes`; equal rows are returned in
        the order of `hashes`. A row that is not finite is nobody's neighbour.

        Raises:
            EmbeddingsMissing: One of the hashes is not stored.
            ValueError: `k` below 1, an unknown metric, or queries of another width than the rows.
        """
