"""The reference set as one extractor sees it: moments, kept warm while a worker lives, and rows when asked for.

Nothing here loads torch before it is needed, so that a worker's context can hold a cache of these.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.embeddings.model import StoreKey
from service.embeddings.protocol import EmbeddingStore

if TYPE_CHECKING:
    from estimators.moments import ClassMoments

ROWS_AT_ONCE = 4096
KEPT_BYTES = 512 << 20  # about fifteen models of 2048 features and a large reference set


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """What is embedded beside the target: every image of the set once, in content-hash order."""

    fingerprint: str
    hashes: Sequence[bytes]


@dataclass(slots=True)
class WarmMoments:
    """The moments last used, by extractor and reference set; the longest unused go first."""

    kept_bytes: int = KEPT_BYTES
    _kept: "OrderedDict[tuple[StoreKey, str], ClassMoments]" = field(default_factory=OrderedDict)

    def of(self, reference: ReferenceSet, key: StoreKey, store: EmbeddingStore, /) -> "ClassMoments":
        """Moments of the reference set's features; computed from the store where they are not at hand."""
        name = (key, reference.fingerprint)
        moments = self._kept.pop(name, None)
        if moments is None:
            moments = _moments(reference.hashes, key, store)
        self._kept[name] = moments
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > self.kept_bytes:
            self._kept.popitem(last=False)
        return moments


def _moments(hashes: Sequence[bytes], key: StoreKey, store: EmbeddingStore) -> "ClassMoments":
    import torch

    from estimators.moments import MomentAccumulator

    accumulator = MomentAccumulator()
    for start in range(0, len(hashes), ROWS_AT_ONCE):
        rows = torch.from_numpy(store.get(key, hashes[start : start + ROWS_AT_ONCE]))
        accumulator.add(rows, torch.zeros(len(rows), dtype=torch.int64))  # the classes of the set do not matter
    return accumulator.moments()


def _size(moments: "ClassMoments") -> int:
    large = moments.second if moments.rows is None else moments.rows
    return 0 if large is None else large.numel() * large.element_size()
