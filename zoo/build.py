"""Builds the architecture of a card and fills it with its weights."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from zoo.catalog import ModelCard
from zoo.checkpoints import StateDict, check, checkpoint_format, load_state_dict
from zoo.errors import BadCard, UnknownArchitecture, WeightsMismatch
from zoo.libraries import open_clip, timm, transformers
from zoo.matching import apply, head_classes, without_head
from zoo.uris import RegistryUri

_REFUSALS = (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError, AssertionError, ImportError)
_USUAL_HEADS = ("fc", "head", "head.fc", "classifier", "last_linear")


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """`num_classes` counts the classes of the source classifier; 0 means that its output is none."""

    module: torch.nn.Module
    num_classes: int


def build(card: ModelCard, path: Path, /) -> Built:
    """The card's model with the weights of the file, on the CPU, in float32 and evaluation mode.

    How many classes the head has is the card's `num_classes`; where that is None, the weights decide. A head in the
    file is left out only when the card says 0; a head that the card counts otherwise is a mismatch.

    Raises:
        UnknownArchitecture, WeightsMismatch, UnsafeCheckpoint, CorruptCheckpoint, BadCard
    """
    entry = card.weights.parsed
    require_architecture(card)
    match card.library:
        case "timm" if isinstance(entry, RegistryUri):
            built = _timm_registry(card, entry, path)
        case "timm":
            built = _timm(card, load_state_dict(path))
        case "open_clip":
            built = Built(open_clip_model(card, path).visual, 0)
        case "transformers" | "open_clip_text":
            raise BadCard(f"{card.name} reads texts: it is built by zoo.text, and is not fine-tuned here")
    built.module.float().eval().requires_grad_(requires_grad=False)
    return built


def require_architecture(card: ModelCard, /) -> None:
    """Raises UnknownArchitecture where the installed library has none of this name, before anything is fetched."""
    match card.library:
        case "timm":
            known = timm().is_model(card.architecture)
        case "open_clip" | "open_clip_text":
            known = card.architecture in open_clip().list_models()
        case "transformers":
            known = card.architecture in transformers().CONFIG_MAPPING
    if not known:
        raise UnknownArchitecture(card.architecture, library=card.library)


def bare(card: ModelCard, /, *, num_classes: int | None = None) -> torch.nn.Module:
    """The card's timm architecture with no weights; None leaves the head as the library has it."""
    kwargs = dict(card.arch_kwargs)
    if num_classes is not None:
        kwargs["num_classes"] = num_classes
    return _create(card, card.architecture, kwargs)


def _timm_registry(card: ModelCard, entry: RegistryUri, path: Path, /) -> Built:
    if "num_classes" in card.arch_kwargs:
        # timm would then load everything but the head, without complaint, and leave the head random.
        raise BadCard("a registry entry's head is what its weights hold: leave num_classes out of arch_kwargs")
    if checkpoint_format(path) == "safetensors" and path.suffix == ".safetensors":
        check(path)
        source: dict[str, Any] = {"file": str(path)}
    else:
        # timm would read a pickle with full powers; only tensors are handed on.
        source = {"state_dict": load_state_dict(path)}
    module = _create(card, f"{entry.architecture}.{entry.tag}", dict(card.arch_kwargs), overlay=source)
    if isinstance(config := getattr(module, "pretrained_cfg", None), dict):
        config.pop("state_dict", None)
    classes = card.num_classes if card.num_classes is not None else int(getattr(module, "num_classes", 0))
    return Built(module, classes)


def _timm(card: ModelCard, state_dict: StateDict, /) -> Built:
    declared = card.arch_kwargs.get("num_classes", card.num_classes)
    if declared is not None and type(declared) is not int:
        raise BadCard(f"num_classes must be a whole number, not {declared!r}")
    match card.weights.match:
        case "name":
            heads = _heads(card.architecture)
            classes = head_classes(state_dict, heads) if declared is None else declared
            module = bare(card, num_classes=classes)
            table = without_head(state_dict, heads) if classes == 0 else state_dict
            apply(module, table, match="name", architecture=card.architecture)
        case "order":
            classes, module = _timm_by_order(card, state_dict, declared)
    return Built(module, classes)


def _timm_by_order(card: ModelCard, state_dict: StateDict, declared: int | None, /) -> tuple[int, torch.nn.Module]:
    # Foreign names do not say which tensors are the head, so it is tried: with a head first, then without one.
    usual = None if declared in (None, 0) else declared
    module = bare(_headless(card), num_classes=usual)
    try:
        apply(module, state_dict, match="order", architecture=card.architecture)
        return declared if declared is not None else int(module.num_classes), module  # type: ignore[arg-type]
    except WeightsMismatch:
        if usual is not None:
            raise
        headless = bare(card, num_classes=0)
        with suppress(WeightsMismatch):
            apply(headless, state_dict, match="order", architecture=card.architecture)
            return 0, headless
        raise


def _headless(card: ModelCard, /) -> ModelCard:
    return replace(card, arch_kwargs={k: v for k, v in card.arch_kwargs.items() if k != "num_classes"})


def _heads(architecture: str, /) -> tuple[str, ...]:
    config = timm().get_pretrained_cfg(architecture, allow_unregistered=True)
    heads = getattr(config, "classifier", None)
    if isinstance(heads, str):
        return (heads,)
    return tuple(heads) if heads else _USUAL_HEADS


def _create(
    card: ModelCard, name: str, kwargs: Mapping[str, Any], /, *, overlay: Mapping[str, Any] | None = None
) -> torch.nn.Module:
    try:
        module: torch.nn.Module = timm().create_model(
            name, pretrained=overlay is not None, pretrained_cfg_overlay=dict(overlay or {}), **kwargs
        )
    except _REFUSALS as error:
        raise _translated(card, error) from error
    return module


def open_clip_model(card: ModelCard, path: Path, /) -> Any:
    """Both towers of the card's model, with the weights of the file."""
    check(path)
    try:
        return open_clip().create_model(card.architecture, pretrained=str(path), weights_only=True, **card.arch_kwargs)
    except _REFUSALS as error:
        raise _translated(card, error) from error


def _translated(card: ModelCard, error: Exception, /) -> Exception:
    text = str(error)
    if "loading state_dict" not in text:
        return UnknownArchitecture(card.architecture, library=card.library, reason=text.splitlines()[0][:300])
    missing, unexpected = (_quoted(kind, text) for kind in ("Missing", "Unexpected"))
    shapes = re.findall(r"size mismatch for (\S+): copying a param with shape (.*?) from", text)
    return WeightsMismatch(
        card.architecture,
        missing=missing,
        unexpected=unexpected,
        shapes=[f"{key} {shape}" for key, shape in shapes],
    )


def _quoted(kind: str, text: str, /) -> list[str]:
    lines = re.findall(rf"{kind} key\(s\) in state_dict: (.*)", text)
    return [key for line in lines for key in re.findall(r'"([^"]+)"', line)]
