"""A card, its weights and a device make an extractor: pixels in, features and source probabilities out."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from zoo.build import build, require_architecture
from zoo.catalog import ModelCard, Precision, extractor_id
from zoo.errors import ExtractionFailed
from zoo.weights import fetch


@dataclass(frozen=True, slots=True, eq=False)
class Extractor:
    """A model ready to run.

    Attributes:
        card: with its weights' sha256 pinned, and `feature_dim` and `num_classes` as they turned out.
        extractor_id: identity of the features.
        weights_sha256: of the file that was loaded.
        device: where it runs.
        precision: of the arithmetic; features are float32 always.
        params: parameters without the classifier, as on the card.
    """

    card: ModelCard
    extractor_id: str
    weights_sha256: str
    device: torch.device
    precision: Precision
    params: int
    _module: torch.nn.Module
    _mean: torch.Tensor
    _std: torch.Tensor

    @property
    def feature_dim(self) -> int:
        return self.card.feature_dim or 0

    @property
    def num_classes(self) -> int:
        return self.card.num_classes or 0

    def forward(self, pixels: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Features and source probabilities of a batch.

        Args:
            pixels: uint8 `[N, 3, H, W]` from `zoo.preprocess.prepare` with this card's configuration, any device.

        Returns:
            Features float32 `[N, D]`, pooled, before the head, not normalised, on the extractor's device; and the
            source classifier's probabilities float32 `[N, C]`, or None where the model has none.

        Raises:
            ExtractionFailed: another shape or dtype than the model takes, or a result that is not finite.
        """
        name, expected = self.card.name, self.card.preprocess.input_size
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            given = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise ExtractionFailed(name, reason=f"takes uint8 [N, {', '.join(map(str, expected))}], not {given}")
        with torch.inference_mode(), _arithmetic(self.device, self.precision):
            # Divided, subtracted and divided in this order, as torchvision does: the features then agree to the bit.
            inputs = pixels.to(self.device, non_blocking=True).float().div_(255).sub_(self._mean).div_(self._std)
            features, logits = self._run(inputs)
            features = features.float()
            probs = logits.float().softmax(dim=1) if logits is not None else None
        if features.ndim != 2:
            raise ExtractionFailed(name, reason=f"its pooled features have shape {tuple(features.shape)}, not [N, D]")
        if not bool(torch.isfinite(features).all()) or (probs is not None and not bool(torch.isfinite(probs).all())):
            raise ExtractionFailed(name, reason="not a number or infinite values")
        return features, probs

    def _run(self, inputs: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor | None]:
        module = self._module
        match self.card.library:
            case "open_clip":
                output = module(inputs)
                # CoCa's tower returns its tokens as well.
                return (output[0] if isinstance(output, tuple) else output), None
            case "timm":
                unpooled = module.forward_features(inputs)  # type: ignore[operator]
                features = module.forward_head(unpooled, pre_logits=True)  # type: ignore[operator]
                if self.card.num_classes == 0:
                    return features, None
                return features, module.forward_head(unpooled)  # type: ignore[operator]


def load(
    card: ModelCard,
    /,
    *,
    device: torch.device | str,
    cache_dir: Path,
    precision: Precision = "float32",
    hub_cache_dir: Path | None = None,
) -> Extractor:
    """Fetches, checks, builds and fills the card's model, and runs it once on a grey image.

    Raises:
        ZooError: of the kind that says what is wrong with the card, the weights or the model.
    """
    require_architecture(card)
    fetched = fetch(card.weights, cache_dir=cache_dir, library=card.library, hub_cache_dir=hub_cache_dir)
    built = build(card, fetched.path)
    place = torch.device(device)
    params = _params_without_head(built.module)
    pinned = replace(card, weights=replace(card.weights, sha256=fetched.sha256), num_classes=built.num_classes)
    extractor = Extractor(
        card=pinned,
        extractor_id=extractor_id(card, weights_sha256=fetched.sha256, precision=precision),
        weights_sha256=fetched.sha256,
        device=place,
        precision=precision,
        params=params,
        _module=built.module.to(place),
        _mean=torch.tensor(card.preprocess.mean, device=place).view(1, 3, 1, 1),
        _std=torch.tensor(card.preprocess.std, device=place).view(1, 3, 1, 1),
    )
    grey = torch.full((1, *card.preprocess.input_size), 128, dtype=torch.uint8)
    try:
        features, probs = extractor.forward(grey)
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ExtractionFailed(card.name, reason=f"{type(error).__name__}: {str(error)[:300]}") from error
    if probs is not None and probs.shape[1] != built.num_classes:
        raise ExtractionFailed(card.name, reason=f"its head has {probs.shape[1]} classes, the card {built.num_classes}")
    return replace(extractor, card=replace(pinned, feature_dim=int(features.shape[1])))


def _params_without_head(module: torch.nn.Module, /) -> int:
    total = sum(p.numel() for p in module.parameters())
    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None  # type: ignore[operator]
    heads = classifier if isinstance(classifier, tuple) else (classifier,)
    return total - sum(p.numel() for head in heads if isinstance(head, torch.nn.Module) for p in head.parameters())


@contextmanager
def _arithmetic(device: torch.device, precision: Precision, /) -> Iterator[None]:
    if precision != "float32":
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}[precision]
        with torch.autocast(device.type, dtype=dtype):
            yield
        return
    if device.type != "cuda":
        yield
        return
    # TensorFloat-32 keeps ten bits: float32 must mean float32, or one extractor_id would name two results.
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
