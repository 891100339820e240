"""What an embedding store does, whoever keeps the bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

HASH_BYTES = 32
Rows = npt.NDArray[np.float32]


class Kind(StrEnum):
    FEATURES = "features"
    SOURCE_PROBS = "source_probs"


@dataclass(frozen=True, slots=True)
class StoreKey:
    """Whose embeddings, made how, and which of an extractor's outputs."""

    project_id: str
    extractor_id: str
    kind: Kind = Kind.FEATURES


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
