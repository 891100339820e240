"""What stays in memory between tasks: the models last used, and what scoring found that no label changes.

Nothing here loads torch before it is needed, so that a worker's context can hold this.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from service.embeddings.model import StoreKey
from zoo.catalog import ModelCard, Precision, extractor_id

if TYPE_CHECKING:
    import torch

    from estimators.label_free import LabelFree
    from zoo.extract import Extractor
    from zoo.loading import AnyExtractor

log = structlog.get_logger(__name__)
FOUND_BYTES = 1 << 30  # about eight models of 1280 features and 5,000 images
NEW_SHARE = 0.1  # of the images: with more new ones neighbours are searched for again

_Key = tuple[str, int, str]


@dataclass(slots=True)
class WarmModels:
    """Loaded models, up to so many bytes of weights; the longest unused go first."""

    kept_bytes: int
    _kept: "OrderedDict[_Key, AnyExtractor]" = field(default_factory=OrderedDict)
    _batches: dict[_Key, int] = field(default_factory=dict)
    _bytes: dict[_Key, int | None] = field(default_factory=dict)

    def load(
        self, card: ModelCard, /, *, device: "torch.device", cache_dir: Path, precision: Precision = "float32"
    ) -> "AnyExtractor":
        """The card's extractor; raises what `zoo.loading.load_any` raises."""
        from zoo.loading import load_any

        if card.weights.sha256 is not None and card.num_classes is not None:
            ident = extractor_id(card, weights_sha256=card.weights.sha256, precision=precision)
            found = self._kept.get((ident, card.num_classes, str(device)))
            if found is not None:
                # The same weights may have another name by now.
                return self.keep(replace(found, card=replace(card, feature_dim=found.feature_dim)))
        return self.keep(load_any(card, device=device, cache_dir=cache_dir, precision=precision))

    def keep(self, extractor: "AnyExtractor", /) -> "AnyExtractor":
        key = _key(extractor)
        self._kept[key] = extractor
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(e.weight_bytes for e in self._kept.values()) > self.kept_bytes:
            self._kept.popitem(last=False)
        return extractor

    def drop(self, extractor: "AnyExtractor", /) -> None:
        self._kept.pop(_key(extractor), None)

    def batch_size(self, extractor: "Extractor", setting: int, /) -> int:
        from service.compute.batches import batch_size

        key = _key(extractor)
        if setting or key not in self._batches:
            self._batches[key] = batch_size(extractor, setting)
        return self._batches[key]

    def forward_bytes(self, extractor: "AnyExtractor", /) -> int | None:
        """None where it cannot be measured: for that, no model fails that has been embedded."""
        from zoo.memory import forward_bytes

        key = _key(extractor)
        if key not in self._bytes:
            try:
                self._bytes[key] = forward_bytes(extractor)
            except (RuntimeError, TypeError, NotImplementedError) as error:
                log.warning("memory.unmeasured", model=extractor.card.name, error=f"{type(error).__name__}: {error}")
                self._bytes[key] = None
        return self._bytes[key]


@dataclass(slots=True)
class WarmFindings:
    """What the estimators last found that no label changes, by extractor and images; the longest unused go first."""

    kept_bytes: int = FOUND_BYTES
    _kept: "OrderedDict[tuple[StoreKey, tuple[bytes, ...]], LabelFree]" = field(default_factory=OrderedDict)

    def of(self, key: StoreKey, hashes: Sequence[bytes], features: "torch.Tensor", /) -> "LabelFree":
        """What is known of these images, which are in the order of their hashes; it grows while they are scored."""
        from estimators.label_free import LabelFree

        name = (key, tuple(hashes))
        found = self._kept.pop(name, None) or self._grown(key, hashes, features) or LabelFree()
        self._kept[name] = found
        return found

    def trim(self) -> None:
        while self._kept and sum(found.nbytes for found in self._kept.values()) > self.kept_bytes:
            self._kept.popitem(last=False)

    def _grown(self, key: StoreKey, hashes: Sequence[bytes], features: "torch.Tensor") -> "LabelFree | None":
        """From the last of this extractor's sets that these images add a few to."""
        import torch

        place = {value: i for i, value in enumerate(hashes)}
        for (other, images), found in reversed(self._kept.items()):
            few = len(images) < len(hashes) <= (1 + NEW_SHARE) * len(images)
            if other == key and few and len(place) == len(hashes) and all(value in place for value in images):
                return found.grown(features, torch.tensor([place[value] for value in images]))
        return None


def _key(extractor: "AnyExtractor") -> _Key:
    return extractor.extractor_id, extractor.num_classes, str(extractor.device)
