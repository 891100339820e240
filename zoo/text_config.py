"""How a text becomes a row of features. Standard library only."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Self, get_args

from zoo.errors import BadCard

Pooling = Literal["mean", "cls", "layer_mean", "own"]

TOKENIZER_VERSION = 1
"""+1 whenever the features that `zoo.text` makes of the same text change."""

MOST_TOKENS = 32_768
MOST_LAYERS = 1_000
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """Of a text encoder; what is None here is as the model's own files say, and is filled in with the first fetch.

    Attributes:
        pooling: `mean` over the tokens of a text, its first token (`cls`), `layer_mean` over the tokens and all layers
            from the first to `layer`, or what the model itself makes of them (`own`; open_clip's text towers alone).
        layer: whose output is pooled: 1 is the first, the last one is the model's output, 0 the embedding of tokens.
        max_length: tokens; a longer text is cut.
        files: sha256 of the configuration and of the tokenizer's files, by name.
    """

    pooling: Pooling = "mean"
    layer: int | None = None
    max_length: int | None = None
    files: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise BadCard(f"pooling must be one of {', '.join(get_args(Pooling))}, not {self.pooling!r}")
        for name, least, most in (("layer", 0, MOST_LAYERS), ("max_length", 1, MOST_TOKENS)):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not least <= value <= most):
                raise BadCard(f"{name} must be a whole number within {least}..{most}, not {value!r}")
        if self.pooling == "layer_mean" and self.layer == 0:
            raise BadCard("layer_mean averages the layers from the first on: layer 0 is none of them")
        if self.pooling == "own" and self.layer is not None:
            raise BadCard("what a model makes of its tokens by itself is of its last layer: give no layer with `own`")
        if not isinstance(self.files, Mapping) or not all(
            isinstance(name, str) and isinstance(sha256, str) and _SHA256.fullmatch(sha256)
            for name, sha256 in self.files.items()
        ):
            raise BadCard("files must map names to sha256 of 64 lower-case hexadecimal digits")

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"files": dict(self.files)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], /) -> Self:
        unknown = sorted(set(data) - {f.name for f in fields(cls)})
        if unknown:
            raise BadCard(f"TextConfig has no {', '.join(unknown)}")
        return cls(**data)
