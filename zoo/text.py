"""A card of a text encoder, its files and a device make an extractor: texts in, features out.

Weights are read from safetensors alone, and a model is built by the installed transformers alone: code that lies beside
the weights is never run. Of what lies there, only the files named in `zoo.text_files` are seen. The text tower of an
open_clip model is read as that library's other models are.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.build import require_architecture
from zoo.catalog import ModelCard, Precision, extractor_id
from zoo.checkpoints import check, checkpoint_format
from zoo.errors import BadCard, CorruptCheckpoint, ExtractionFailed, HashMismatch, UnsafeCheckpoint
from zoo.extract import arithmetic
from zoo.text_config import TextConfig
from zoo.text_files import SENTENCES, WEIGHTS, files_of
from zoo.text_towers import NOT_NEEDED, REFUSALS, Layers, Tower, open_clip_tower, transformers_tower
from zoo.weights import fetch, sha256_of

USUAL_LENGTH = 512


@dataclass(frozen=True, slots=True, eq=False)
class TextExtractor:
    """A text encoder ready to run; its attributes are those of `zoo.extract.Extractor`."""

    card: ModelCard
    extractor_id: str
    weights_sha256: str
    device: torch.device
    precision: Precision
    params: int
    settings: TextConfig
    _tower: Tower

    @property
    def feature_dim(self) -> int:
        return self.card.feature_dim or 0

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self._tower.module.parameters())

    @property
    def max_length(self) -> int:
        return self.settings.max_length or USUAL_LENGTH

    @property
    def same_pass(self) -> str:
        """Extractors that share it differ in layer or pooling alone: one forward pass serves them all."""
        same = {"pooling": None, "layer": None, "arch_kwargs": dict(self.card.arch_kwargs)}
        stated = json.dumps(self.settings.to_json() | same, sort_keys=True)
        return self.card.library + self.card.weights.uri + self.weights_sha256 + stated

    def tokenize(self, texts: Sequence[str], /) -> tuple[list[list[int]], int]:
        """Tokens of each text, and how many of the texts were cut."""
        tokens = self._tower.tokens(texts, self.max_length)
        full = [text for text, ids in zip(texts, tokens, strict=True) if len(ids) == self.max_length]
        cut = sum(len(ids) > self.max_length for ids in self._tower.tokens(full, None)) if full else 0
        return tokens, cut

    def forward(self, texts: Sequence[str], /) -> torch.Tensor:
        """Features float32 `[N, D]` of the texts, on the extractor's device.

        Raises:
            ExtractionFailed: the result is not finite.
        """
        return together([self], self.tokenize(texts)[0])[0]


def together(extractors: Sequence[TextExtractor], tokens: Sequence[Sequence[int]], /) -> list[torch.Tensor]:
    """Features float32 `[N, D]` of tokenized texts by each of the extractors, which share `same_pass`.

    Raises:
        ExtractionFailed: a result is not finite.
    """
    first = extractors[0]
    with torch.inference_mode(), arithmetic(first.device, first.precision):
        layers = first._tower.layers(tokens, first.device)
        found = [_pooled(e.settings, layers) for e in extractors]
    for extractor, features in zip(extractors, found, strict=True):
        if not bool(torch.isfinite(features).all()):
            raise ExtractionFailed(extractor.card.name, reason="not a number or infinite values")
    return found


def _pooled(settings: TextConfig, layers: Layers, /) -> torch.Tensor:
    last = len(layers.hidden) - 1 if settings.layer is None else settings.layer
    match settings.pooling:
        case "cls" | "own":
            return layers.hidden[last][:, 0].float().contiguous()
        case "mean":
            return _mean(layers.hidden[last], layers.mask)
        case "layer_mean":
            averaged = [_mean(hidden, layers.mask) for hidden in layers.hidden[1 : last + 1]]
            return torch.stack(averaged).mean(dim=0)


def _mean(hidden: torch.Tensor, mask: torch.Tensor, /) -> torch.Tensor:
    weight = mask.unsqueeze(-1).float()
    return (hidden.float() * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def load_text(
    card: ModelCard,
    /,
    *,
    device: torch.device | str,
    cache_dir: Path,
    hub_cache_dir: Path | None = None,
) -> TextExtractor:
    """Fetches, checks and builds the card's encoder and its tokenizer, and runs them once on a text of full length.

    Raises:
        ZooError: of the kind that says what is wrong with the card, the weights or the model.
    """
    wanted = card.text
    if wanted is None:
        raise BadCard(f"{card.name} is no text encoder")
    require_architecture(card)
    if card.library == "open_clip_text":
        fetched = fetch(card.weights, cache_dir=cache_dir, library=card.library, hub_cache_dir=hub_cache_dir)
        clip = open_clip_tower(card, fetched.path)
        return _tried(card, _settled(card, wanted, {}, clip, None), clip, torch.device(device), fetched.sha256)
    weights, beside = files_of(card.weights, cache_dir, hub_cache_dir)
    found = {name: sha256_of(path) for name, path in sorted(beside.items())}
    for name, expected in wanted.files.items():
        if found.get(name) != expected:
            raise HashMismatch(name, expected=expected, actual=found.get(name, "none: it is gone"))
    pinned_sha256 = sha256_of(weights)
    if card.weights.sha256 not in (None, pinned_sha256):
        raise HashMismatch(card.weights.uri, expected=card.weights.sha256 or "", actual=pinned_sha256)
    if checkpoint_format(weights) != "safetensors":
        raise UnsafeCheckpoint(f"{weights.name} is no safetensors file: text encoders are read from nothing else")
    check(weights)
    # A folder with these files alone: whatever else lies beside them is not looked at.
    with tempfile.TemporaryDirectory(prefix="zooscout-text-") as folder:
        for name, path in {**beside, WEIGHTS: weights}.items():
            (Path(folder) / name).symlink_to(path.absolute())
        tower = transformers_tower(card, Path(folder))
    settings = _settled(card, wanted, found, tower, beside.get(SENTENCES))
    return _tried(card, settings, tower, torch.device(device), pinned_sha256)


def _settled(
    card: ModelCard, wanted: TextConfig, files: Mapping[str, str], tower: Tower, sentences: Path | None, /
) -> TextConfig:
    """What the card leaves open, as the files have it."""
    if wanted.layer is not None and wanted.layer > tower.last:
        raise BadCard(f"{card.name} has {tower.last} layers, and the card asks for layer {wanted.layer}")
    if wanted.max_length is not None and card.library == "open_clip_text" and wanted.max_length > min(tower.lengths):
        raise BadCard(f"{card.name} takes {min(tower.lengths)} tokens, and the card asks for {wanted.max_length}")
    known = list(tower.lengths)
    if sentences is not None:
        stated = _json(sentences).get("max_seq_length")
        known += [stated] if type(stated) is int and stated > 0 else []
    return replace(
        wanted,
        layer=(tower.last or None) if wanted.layer is None else wanted.layer,
        max_length=wanted.max_length or min(known, default=USUAL_LENGTH),
        files=dict(files),
    )


def _tried(card: ModelCard, settings: TextConfig, tower: Tower, device: torch.device, sha256: str, /) -> TextExtractor:
    pinned = replace(card, text=settings, num_classes=0, weights=replace(card.weights, sha256=sha256))
    tower.module.to(device)
    extractor = TextExtractor(
        card=pinned,
        extractor_id=extractor_id(pinned, weights_sha256=sha256),
        weights_sha256=sha256,
        device=device,
        precision="float32",
        params=sum(p.numel() for name, p in tower.module.named_parameters() if not name.startswith(NOT_NEEDED)),
        settings=settings,
        _tower=tower,
    )
    try:
        features = extractor.forward(["a", "a word " * extractor.max_length])
    except REFUSALS as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ExtractionFailed(card.name, reason=f"{type(error).__name__}: {str(error)[:300]}") from error
    return replace(extractor, card=replace(pinned, feature_dim=int(features.shape[1])))


def _json(path: Path, /) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CorruptCheckpoint(f"{path.name} cannot be read as JSON") from error
    return found if isinstance(found, dict) else {}
