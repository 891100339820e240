"""A card, its weights and a device make an extractor: pixels in, features and source probabilities out."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from zoo.build import build, require_architecture
from zoo.catalog import ModelCard, Precision, extractor_id
from zoo.errors import BadCard, ExtractionFailed
from zoo.fold import folded
from zoo.weights import fetch

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
# Autocast would convert their weights at every pass. A subclass may do more with its weight than multiply by it.
_CONVERTED_ONCE = frozenset({"Conv2d", "Conv2dSame", "Linear"})


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
    _module: nn.Module
    _mean: torch.Tensor
    _std: torch.Tensor

    @property
    def feature_dim(self) -> int:
        return self.card.feature_dim or 0

    @property
    def num_classes(self) -> int:
        return self.card.num_classes or 0

    @property
    def weight_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self._module.parameters())

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
        features, probs = self.launch(pixels)
        self.require_finite(features, probs)
        return features, probs

    def launch(self, pixels: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`forward` that neither waits for the device nor looks at the numbers: see `require_finite`."""
        name, expected = self.card.name, self.card.preprocess.input_size
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            given = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise ExtractionFailed(name, reason=f"takes uint8 [N, {', '.join(map(str, expected))}], not {given}")
        with torch.inference_mode(), arithmetic(self.device, self.precision):
            here = pixels.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
            # Divided, subtracted and divided in this order, as torchvision does: the inputs then agree to the bit.
            inputs = here.float().div_(255).sub_(self._mean).div_(self._std)
            features, logits = _run(self._module, self.card, inputs)
            features = features.float()
            probs = logits.float().softmax(dim=1) if logits is not None else None
        if features.ndim != 2:
            raise ExtractionFailed(name, reason=f"its pooled features have shape {tuple(features.shape)}, not [N, D]")
        return features, probs

    def require_finite(self, features: torch.Tensor, probs: torch.Tensor | None, /) -> None:
        """Raises ExtractionFailed where a number is none."""
        if not bool(torch.isfinite(features).all()) or (probs is not None and not bool(torch.isfinite(probs).all())):
            raise ExtractionFailed(self.card.name, reason="not a number or infinite values")

    def cast(self, precision: Precision, /) -> "Extractor":
        """The same model in a lower precision, under the id that belongs to it; weights are copied."""
        if self.precision != "float32":
            raise ValueError(f"only a float32 extractor can be cast, not {self.precision}")
        if precision == "float32":
            return self
        module = copy.deepcopy(self._module)
        for child in module.modules():
            if type(child).__name__ in _CONVERTED_ONCE:
                child.to(_DTYPES[precision])
        return replace(
            self,
            extractor_id=extractor_id(self.card, weights_sha256=self.weights_sha256, precision=precision),
            precision=precision,
            _module=module,
        )


@contextmanager
def interruptible(extractors: Iterable[Extractor], look: Callable[[], None], /) -> Iterator[None]:
    """Has forward passes call `look` between two layers: what it raises ends them."""

    def before(_module: nn.Module, _inputs: object) -> None:
        look()

    layers = [m for e in extractors for m in e._module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_pre_hook(before) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def pooled(module: nn.Module, card: ModelCard, inputs: torch.Tensor, /) -> torch.Tensor:
    """Features `[N, D]` before the head, of a module that `zoo.build` made; gradients flow where they are wanted."""
    return _run(module, replace(card, num_classes=0, arch_kwargs={}), inputs)[0]


def _run(module: nn.Module, card: ModelCard, inputs: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor | None]:
    match card.library:
        case "open_clip":
            output = module(inputs)
            # CoCa's tower returns its tokens as well.
            return (output[0] if isinstance(output, tuple) else output), None
        case "timm":
            unpooled = module.forward_features(inputs)  # type: ignore[operator]
            features = module.forward_head(unpooled, pre_logits=True)  # type: ignore[operator]
            if card.num_classes == 0:
                return features, None
            return features, module.forward_head(unpooled)  # type: ignore[operator]
        case "transformers" | "open_clip_text":
            raise BadCard(f"{card.name} reads texts, not images")


def load(
    card: ModelCard,
    /,
    *,
    device: torch.device | str,
    cache_dir: Path,
    precision: Precision = "float32",
    hub_cache_dir: Path | None = None,
) -> Extractor:
    """Fetches, checks, builds and fills the card's model, folds what can be folded, and runs it once.

    Raises:
        ZooError: of the kind that says what is wrong with the card, the weights or the model.
    """
    require_architecture(card)
    fetched = fetch(card.weights, cache_dir=cache_dir, library=card.library, hub_cache_dir=hub_cache_dir)
    built = build(card, fetched.path)
    place = torch.device(device)
    params = _params_without_head(built.module)
    pinned = replace(card, weights=replace(card.weights, sha256=fetched.sha256), num_classes=built.num_classes)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.preprocess.mean, card.preprocess.std))
    trial = _trial_pixels(*card.preprocess.input_size[1:])

    def outputs(module: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
        with torch.inference_mode():
            return [found for found in _run(module, pinned, inputs) if found is not None]

    try:
        module = folded(built.module, outputs, trial.float().div(255).sub(mean).div(std))
        extractor = Extractor(
            card=pinned,
            extractor_id=extractor_id(card, weights_sha256=fetched.sha256),
            weights_sha256=fetched.sha256,
            device=place,
            precision="float32",
            params=params,
            _module=module.to(place).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            _mean=mean.to(place),
            _std=std.to(place),
        ).cast(precision)
        features, probs = extractor.forward(trial[:1])
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ExtractionFailed(card.name, reason=f"{type(error).__name__}: {str(error)[:300]}") from error
    if probs is not None and probs.shape[1] != built.num_classes:
        raise ExtractionFailed(card.name, reason=f"its head has {probs.shape[1]} classes, the card {built.num_classes}")
    return replace(extractor, card=replace(pinned, feature_dim=int(features.shape[1])))


def _trial_pixels(height: int, width: int, /) -> torch.Tensor:
    """A ramp, coarse patches of pure colours and fine blots on white.

    Flat areas and edges, on which a badly conditioned model shows itself far better than on noise.
    """
    dice = torch.Generator().manual_seed(0)
    scaled = partial(nn.functional.interpolate, size=(height, width))
    ramp = torch.linspace(0, 1, height * width).view(1, 1, height, width).expand(1, 3, height, width)
    patches = scaled((torch.rand(2, 3, 4, 4, generator=dice) > 0.1).float(), mode="nearest")
    blots = scaled((torch.rand(2, 1, 28, 28, generator=dice) > 0.1).float(), mode="bilinear").expand(
        2, 3, height, width
    )
    return torch.cat([ramp, patches, blots]).mul(255).to(torch.uint8)


def _params_without_head(module: nn.Module, /) -> int:
    total = sum(p.numel() for p in module.parameters())
    classifier = module.get_classifier() if hasattr(module, "get_classifier") else None  # type: ignore[operator]
    heads = classifier if isinstance(classifier, tuple) else (classifier,)
    return total - sum(p.numel() for head in heads if isinstance(head, nn.Module) for p in head.parameters())


@contextmanager
def arithmetic(device: torch.device, precision: Precision, /) -> Iterator[None]:
    if precision != "float32":
        with torch.autocast(device.type, dtype=_DTYPES[precision]):
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
