"""What a pretrained model is, as plain values. Standard library only, so that the API can list cards without torch."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, get_args

from zoo.errors import BadCard
from zoo.text_config import TOKENIZER_VERSION, TextConfig
from zoo.uris import RegistryUri, WeightsUri, parse_weights_uri

Library = Literal["timm", "open_clip", "open_clip_text", "transformers"]
Modality = Literal["image", "text"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
CropMode = Literal["center", "squash", "border"]
MatchRule = Literal["name", "order"]
Precision = Literal["float32", "bfloat16", "float16"]
JsonValue = str | int | float | bool | None | list[Any] | dict[str, Any]

DECODER_VERSION = 1
"""+1 whenever the pixels that `zoo.preprocess` makes of the same bytes change."""

MODALITIES: dict[Library, Modality] = {
    "timm": "image",
    "open_clip": "image",
    "open_clip_text": "text",
    "transformers": "text",
}
"""What the models of a library are given."""

_LAYER: dict[Library, str] = {"timm": "pre_logits", "open_clip": "image_embedding"}
_POOLING: dict[Library, str] = {"timm": "architecture", "open_clip": "architecture"}

_ARCHITECTURE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+@-]{0,199}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# They steer the library's loader instead of the architecture: through them it could read or fetch files of its own.
FORBIDDEN_ARCH_KWARGS = frozenset(
    {
        "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn",
        "pretrained_image", "pretrained_image_path", "pretrained_text", "pretrained_text_path", "pretrained_hf",
        "checkpoint_path", "cache_dir", "scriptable", "exportable", "no_jit", "features_only", "feature_cfg",
        "out_indices", "kwargs_filter", "feature_filter", "load_weights", "weights_only", "require_pretrained",
        "model_name", "model_cls", "device", "dtype", "precision", "jit", "output_dict", "model_kwargs", "text_cfg",
        "vision_cfg", "in_chans",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessConfig:
    """How an image becomes the model's input. Resizing always filters with support scaled to the ratio, as PIL does.

    Attributes:
        input_size: channels, height, width.
        interpolation: the filter of the resize.
        mean: subtracted on the 0..1 scale.
        std: divides after the mean.
        crop_pct: input side divided by the side resized to.
        crop_mode: `center` resizes the shorter side and crops the middle, `squash` ignores the aspect ratio,
            `border` resizes the longer side and pads.
        fill: the grey value, 0..255 per channel, with which `border` pads.
    """

    input_size: tuple[int, int, int] = (3, 224, 224)
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop_pct: float = 0.875
    crop_mode: CropMode = "center"
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        # Lists and integers come from JSON and from libraries; one spelling only, or equal settings get two ids.
        object.__setattr__(self, "input_size", _triple(self.input_size, "input_size", int))
        object.__setattr__(self, "mean", _triple(self.mean, "mean", float))
        object.__setattr__(self, "std", _triple(self.std, "std", float))
        object.__setattr__(self, "fill", _triple(self.fill, "fill", int))
        object.__setattr__(self, "crop_pct", _number(self.crop_pct, "crop_pct"))
        channels, height, width = self.input_size
        if channels != 3:
            raise BadCard(f"input_size must have 3 channels, not {channels}")
        if not (1 <= height <= 4096 and 1 <= width <= 4096):
            raise BadCard(f"input_size must lie within 1..4096, not {height}x{width}")
        if self.interpolation not in get_args(Interpolation):
            raise BadCard(
                f"interpolation must be one of {', '.join(get_args(Interpolation))}, not {self.interpolation}"
            )
        if self.crop_mode not in get_args(CropMode):
            raise BadCard(f"crop_mode must be one of {', '.join(get_args(CropMode))}, not {self.crop_mode}")
        if not 0.05 <= self.crop_pct <= 2.0:
            raise BadCard(f"crop_pct must lie within 0.05..2, not {self.crop_pct}")
        if any(s <= 0 for s in self.std):
            raise BadCard(f"std must be positive, not {self.std}")
        if any(not 0 <= f <= 255 for f in self.fill):
            raise BadCard(f"fill must lie within 0..255, not {self.fill}")

    @property
    def signature(self) -> str:
        """Names the pixels, not their scale: models that share it share one decode."""
        _, height, width = self.input_size
        text = f"v{DECODER_VERSION}-{self.crop_mode}-{height}x{width}-{self.interpolation}-{self.crop_pct:.6g}"
        return text if self.crop_mode != "border" else f"{text}-fill{'.'.join(map(str, self.fill))}"

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "input_size": list(self.input_size),
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            "crop_pct": self.crop_pct,
            "crop_mode": self.crop_mode,
            "fill": list(self.fill),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], /) -> Self:
        return cls(**_known(data, cls))


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsRef:
    """Where the weights lie, which bytes they must be, and how their tensors are matched to the architecture's.

    `sha256=None` means unresolved: whoever fetches first records and pins it. See `zoo.uris` for the grammar of `uri`.
    `match="order"` is for checkpoints with foreign names: tensors in definition order, each with an equal shape.
    """

    uri: str
    sha256: str | None = None
    match: MatchRule = "name"

    def __post_init__(self) -> None:
        parse_weights_uri(self.uri)
        if self.sha256 is not None:
            _matches(self.sha256, _SHA256, "sha256 must be 64 lower-case hexadecimal digits")
        _one_of(self.match, get_args(MatchRule), "match")

    @property
    def parsed(self) -> WeightsUri:
        return parse_weights_uri(self.uri)

    @property
    def scheme(self) -> str:
        return self.uri.partition(":")[0]

    def to_json(self) -> dict[str, JsonValue]:
        return {"uri": self.uri, "sha256": self.sha256, "match": self.match}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], /) -> Self:
        return cls(**_known(data, cls))


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """One pretrained model: an architecture and one set of weights. None means unknown, never a guess.

    Attributes:
        name: `architecture.tag` for a registry's entry; of the user's choice for their own weights.
        library: who builds the architecture.
        architecture: the library's name for it.
        arch_kwargs: passed to the library's builder; part of the extractor's identity.
        tag: which weights.
        family: the library's group of related architectures.
        params: number of parameters without the head.
        macs: multiply-adds of one image at the card's input size, without the head.
        feature_dim: width of the pooled features before the head.
        preprocess: how an image becomes the input.
        text: how a text becomes features; of text encoders, and of them alone.
        num_classes: classes of the source classifier; 0 means that there is none, None that the weights decide.
        licence: of the weights, as published.
        pretrained_on: source data, derived from the tag by `zoo.pretraining`.
        imagenet_top1: published top-1 accuracy on ImageNet-1k, a share.
        hub_id: `organisation/name` on the Hugging Face hub.
        weights: where they lie.
        tags: free text of the user's choice.
    """

    name: str
    library: Library
    architecture: str
    tag: str
    weights: WeightsRef
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    text: TextConfig | None = None
    arch_kwargs: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)
    family: str | None = None
    params: int | None = None
    macs: int | None = None
    feature_dim: int | None = None
    num_classes: int | None = None
    licence: str | None = None
    pretrained_on: str | None = None
    imagenet_top1: float | None = None
    hub_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        _one_of(self.library, get_args(Library), "library")
        _matches(self.architecture, _ARCHITECTURE, "architecture may hold letters, digits, '_' and '-' only")
        _matches(self.tag, _TAG, "tag may hold letters, digits, '_', '-' and '.' only")
        _matches(self.name, _NAME, "name may hold letters, digits, '_', '-', '.', '+' and '@' only, 200 at most")
        if not isinstance(self.weights, WeightsRef) or not isinstance(self.preprocess, PreprocessConfig):
            raise BadCard("weights and preprocess must be objects")
        if not isinstance(self.text, TextConfig | None):
            raise BadCard("text must be an object")
        for key in ("family", "licence", "pretrained_on", "hub_id"):
            if not isinstance(getattr(self, key), str | None):
                raise BadCard(f"{key} must be text, not {getattr(self, key)!r}")
        for key in ("arch_kwargs", "tags"):
            value = getattr(self, key)
            if not isinstance(value, Mapping) or any(not isinstance(k, str) for k in value):
                raise BadCard(f"{key} must be an object, not {value!r}")
        forbidden = FORBIDDEN_ARCH_KWARGS & set(self.arch_kwargs)
        if forbidden:
            raise BadCard(f"arch_kwargs may not hold {', '.join(sorted(forbidden))}")
        try:
            canonical_json(self.arch_kwargs)
        except (TypeError, ValueError) as error:
            raise BadCard(f"arch_kwargs must be JSON: {error}") from error
        for key in ("params", "macs", "feature_dim", "num_classes"):
            count = getattr(self, key)
            if count is not None and (type(count) is not int or count < 0):
                raise BadCard(f"{key} must be a whole number of at least 0, not {count!r}")
        top1 = self.imagenet_top1
        if top1 is not None and (type(top1) is not float or not 0 < top1 <= 1):
            raise BadCard(f"imagenet_top1 must be a share above 0 and at most 1, not {top1!r}")
        built = self.arch_kwargs.get("num_classes", self.num_classes)
        if self.num_classes is not None and built != self.num_classes:
            raise BadCard(f"num_classes is {self.num_classes} on the card and {built} in arch_kwargs")
        builder = "open_clip" if self.library == "open_clip_text" else self.library
        if self.weights.scheme in get_args(Library) and self.weights.scheme != builder:
            raise BadCard(f"a {self.library} model cannot take its weights from {self.weights.uri}")
        entry = self.weights.parsed
        if isinstance(entry, RegistryUri) and entry.architecture != self.architecture:
            raise BadCard(f"{self.weights.uri} names another architecture than {self.architecture}")
        if builder == "open_clip" and self.weights.match != "name":
            raise BadCard("open_clip weights match by name only")
        if any(not isinstance(v, str) for v in self.tags.values()):
            raise BadCard("tags must map text to text")
        if (self.text is not None) != (self.modality == "text"):
            raise BadCard(
                f"{self.library} reads {self.modality}s: text settings go with transformers or open_clip_text"
            )
        if self.text is not None and (self.text.pooling == "own") != (self.library == "open_clip_text"):
            raise BadCard(
                "pooling `own` is that of open_clip_text, which has no other: what its models were trained to give"
            )
        if self.library == "transformers" and (self.arch_kwargs or self.weights.match != "name"):
            raise BadCard("a text encoder is built as its own config.json says: no arch_kwargs, and match by name")

    @property
    def modality(self) -> Modality:
        return MODALITIES[self.library]

    @property
    def signature(self) -> str:
        """Models that share it are given the same input, and embed it together."""
        return self.preprocess.signature if self.text is None else "text"

    def to_json(self) -> dict[str, JsonValue]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {
            "weights": self.weights.to_json(),
            "preprocess": self.preprocess.to_json(),
            "text": None if self.text is None else self.text.to_json(),
            "arch_kwargs": dict(self.arch_kwargs),
            "tags": dict(self.tags),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], /) -> Self:
        known = _known(data, cls)
        if isinstance(known.get("weights"), Mapping):
            known["weights"] = WeightsRef.from_json(known["weights"])
        if isinstance(known.get("preprocess"), Mapping):
            known["preprocess"] = PreprocessConfig.from_json(known["preprocess"])
        if isinstance(known.get("text"), Mapping):
            known["text"] = TextConfig.from_json(known["text"])
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSpec:
    """A registry from which cards can be imported. `entrypoint` yields cards, given one glob over their names.

    `library` is that of all its cards; None where they differ.
    """

    name: str
    library: Library | None
    entrypoint: str
    description: str


SOURCES: dict[str, SourceSpec] = {
    "timm": SourceSpec(
        name="timm",
        library="timm",
        entrypoint="zoo.sources:import_timm",
        description="Every pretrained entry of the installed timm",
    ),
    "open_clip": SourceSpec(
        name="open_clip",
        library="open_clip",
        entrypoint="zoo.sources:import_open_clip",
        description="The image tower of every pretrained entry of the installed open_clip",
    ),
    "open_clip_text": SourceSpec(
        name="open_clip_text",
        library="open_clip_text",
        entrypoint="zoo.sources:import_open_clip_text",
        description="The text tower of every entry of the installed open_clip whose tokenizer comes with it",
    ),
}


def canonical_json(value: object, /) -> str:
    """One text for one value, whatever order its keys came in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def extractor_id(card: ModelCard, /, *, weights_sha256: str, precision: Precision = "float32") -> str:
    """Identity of the features: everything that can change their value, and nothing that cannot (name, licence)."""
    _matches(weights_sha256, _SHA256, "weights_sha256 must be 64 lower-case hexadecimal digits")
    _one_of(precision, get_args(Precision), "precision")
    if card.text is not None:
        text = {
            "library": card.library,
            "architecture": card.architecture,
            "weights_sha256": weights_sha256,
            "text": card.text.to_json(),
            "precision": precision,
            "tokenizer_version": TOKENIZER_VERSION,
        } | ({"arch_kwargs": dict(card.arch_kwargs)} if card.arch_kwargs else {})
        return hashlib.sha256(canonical_json(text).encode()).hexdigest()
    identity = {
        "library": card.library,
        "architecture": card.architecture,
        "arch_kwargs": dict(card.arch_kwargs),
        "weights_sha256": weights_sha256,
        "weights_match": card.weights.match,
        "layer": _LAYER[card.library],
        "pooling": _POOLING[card.library],
        "preprocess": card.preprocess.to_json(),
        "precision": precision,
        "decoder_version": DECODER_VERSION,
    }
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()


def _known(data: Mapping[str, Any], cls: type, /) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise BadCard(f"a {cls.__name__} is a JSON object, not {type(data).__name__}")
    allowed = {f.name: f for f in fields(cls)}
    unknown = sorted(set(data) - set(allowed))
    if unknown:
        raise BadCard(f"{cls.__name__} has no {', '.join(unknown)}")
    needed = {"ModelCard": ("name", "library", "architecture", "tag", "weights"), "WeightsRef": ("uri",)}
    missing = [key for key in needed.get(cls.__name__, ()) if key not in data]
    if missing:
        raise BadCard(f"{cls.__name__} lacks {', '.join(missing)}")
    return dict(data)


def _one_of(value: Any, allowed: tuple[str, ...], what: str, /) -> None:
    if value not in allowed:
        raise BadCard(f"{what} must be one of {', '.join(allowed)}, not {value!r}")


def _matches(value: Any, pattern: re.Pattern[str], rule: str, /) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BadCard(f"{rule}, not {value!r}")


def _number(value: Any, what: str, /) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == float("inf"):
        raise BadCard(f"{what} must be a finite number, not {value!r}")
    return float(value)


def _triple(value: Any, what: str, kind: type[int] | type[float], /) -> tuple[Any, Any, Any]:
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise BadCard(f"{what} must have three entries, not {value!r}")
    numbers = [_number(v, what) for v in value]
    if kind is int and any(not n.is_integer() for n in numbers):
        raise BadCard(f"{what} must be whole numbers, not {value!r}")
    first, second, third = (kind(n) for n in numbers)
    return first, second, third
