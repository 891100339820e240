"""Cards of every pretrained entry that the installed libraries know. Nothing is downloaded, no model is built."""

import fnmatch
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from zoo.catalog import CropMode, ModelCard, PreprocessConfig, WeightsRef
from zoo.imagenet import imagenet_top1
from zoo.libraries import open_clip, timm
from zoo.pretraining import pretrained_on
from zoo.text_config import TextConfig

# Rows of the classifiers in timm's registry that tell classes apart. A head of any other width is the projection of an
# image-text model into the space it shares with text: its softmax is no distribution over classes.
LABEL_SPACES: Mapping[int, str] = {
    1000: "ImageNet-1k",
    11221: "ImageNet-21k, pruned",
    11821: "ImageNet-12k",
    19168: "ImageNet-W21",
    21841: "ImageNet-22k",
    21842: "ImageNet-22k with an empty class",
    21843: "ImageNet-21k",
    115217: "Bamboo",
}
_CROP_MODES: Mapping[str, CropMode] = {"shortest": "center", "squash": "squash", "longest": "border"}
_NO_LICENCE = frozenset({None, "", "unknown", "other"})


class Measured(NamedTuple):
    """What only the built architecture knows. `params` and `macs` leave the head out."""

    params: int | None = None
    macs: int | None = None
    feature_dim: int | None = None


def import_timm(pattern: str = "*", /) -> Iterator[ModelCard]:
    """Cards of timm's pretrained entries whose name matches the glob, in timm's order."""
    library = timm()
    for name in library.list_pretrained():
        if not fnmatch.fnmatchcase(name, pattern):
            continue
        config = library.get_pretrained_cfg(name)
        architecture, _, tag = name.partition(".")
        height, width = config.input_size[1:]
        measured = measurements("timm").get(measurement_key(architecture, height, width), Measured())
        yield ModelCard(
            name=name,
            library="timm",
            architecture=architecture,
            tag=tag,
            weights=WeightsRef(uri=f"timm:{name}"),
            preprocess=PreprocessConfig(
                input_size=config.input_size,
                interpolation=config.interpolation,
                mean=config.mean,
                std=config.std,
                crop_pct=config.crop_pct or 0.875,
                crop_mode=config.crop_mode or "center",
                fill=_grey(config.mean) if config.crop_mode == "border" else (0, 0, 0),
            ),
            family=timm_family(architecture),
            params=measured.params,
            macs=measured.macs,
            feature_dim=measured.feature_dim,
            num_classes=config.num_classes if config.num_classes in LABEL_SPACES else 0,
            licence=None if config.license in _NO_LICENCE else config.license,
            pretrained_on=pretrained_on(tag),
            imagenet_top1=imagenet_top1().get(name),
            hub_id=config.hf_hub_id,
        )


def import_open_clip(pattern: str = "*", /) -> Iterator[ModelCard]:
    """Cards of the image towers of open_clip's pretrained entries whose name matches the glob, in open_clip's order."""
    library = open_clip()
    licences = _licences_by_hub_id()
    for architecture, tag in library.list_pretrained():
        name = f"{architecture}.{tag}"
        if not fnmatch.fnmatchcase(name, pattern):
            continue
        config = library.get_pretrained_cfg(architecture, tag)
        model = library.get_model_config(architecture)
        size = model["vision_cfg"].get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        hub_id = (config.get("hf_hub") or "").rpartition("/")[0] or None
        measured = measurements("open_clip").get(measurement_key(architecture, height, width), Measured())
        yield ModelCard(
            name=name,
            library="open_clip",
            architecture=architecture,
            tag=tag,
            weights=WeightsRef(uri=f"open_clip:{name}"),
            preprocess=PreprocessConfig(
                input_size=(3, height, width),
                interpolation=config["interpolation"],
                mean=config["mean"],
                std=config["std"],
                crop_pct=1.0,
                crop_mode=_CROP_MODES[config["resize_mode"]],
            ),
            # The architecture of this name was trained with another activation than these weights were.
            arch_kwargs={"force_quick_gelu": True} if config.get("quick_gelu") and not model.get("quick_gelu") else {},
            family=_tower_family(model["vision_cfg"]),
            params=measured.params,
            macs=measured.macs,
            feature_dim=model["embed_dim"],
            num_classes=0,
            # The same repository holds the same weights for both libraries; timm states their licence.
            licence=licences.get(hub_id),
            pretrained_on=pretrained_on(tag),
            hub_id=hub_id,
        )


def import_open_clip_text(pattern: str = "*", /) -> Iterator[ModelCard]:
    """Cards of the text towers, named as those of the image towers with `.text` after it.

    Left out is who does not come with a tokenizer.
    """
    library = open_clip()
    for card in import_open_clip():
        name = f"{card.name}.text"
        if not fnmatch.fnmatchcase(name, pattern):
            continue
        config = library.get_model_config(card.architecture)["text_cfg"]
        if has_own_tokenizer(card.architecture, config):
            yield replace(
                card,
                name=name,
                library="open_clip_text",
                preprocess=PreprocessConfig(),
                text=TextConfig(pooling="own", max_length=config.get("context_length", 77)),
                family="text_transformer",
                params=None,
                macs=None,
            )


def has_own_tokenizer(architecture: str, text: Mapping[str, Any], /) -> bool:
    """Whether open_clip's package holds the tokenizer of a text tower."""
    from_elsewhere = "hf_tokenizer_name" in text or "hf_model_name" in text or "siglip" in architecture.lower()
    return not from_elsewhere and not text.get("tokenizer_kwargs")


def measurement_key(architecture: str, height: int, width: int, /) -> str:
    return f"{architecture} {height}x{width}"


@cache
def measurements(library: str, /) -> Mapping[str, Measured]:
    """What `python -m zoo.measure` found, by `measurement_key`."""
    text = resources.files("zoo").joinpath("data", "architectures.json").read_text(encoding="utf-8")
    return {key: Measured(*row) for key, row in json.loads(text)[library].items()}


def timm_family(architecture: str, /) -> str | None:
    try:
        entrypoint = timm().model_entrypoint(architecture)
    except (RuntimeError, KeyError):
        return None
    return str(entrypoint.__module__).rpartition(".")[2]


def _tower_family(vision: Mapping[str, Any], /) -> str | None:
    if "timm_model_name" in vision:
        return timm_family(vision["timm_model_name"])
    return "resnet" if isinstance(vision.get("layers"), (list, tuple)) else "vision_transformer"


@cache
def _licences_by_hub_id() -> Mapping[str | None, str]:
    library = timm()
    configs = [library.get_pretrained_cfg(name) for name in library.list_pretrained()]
    return {c.hf_hub_id: c.license for c in configs if c.hf_hub_id and c.license not in _NO_LICENCE}


def _grey(mean: tuple[float, ...], /) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
