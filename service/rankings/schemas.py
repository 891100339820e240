"""What a ranking takes and gives. `zooscout rank --json` and `GET /v1/rankings/{id}` share this shape."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.core.budget import BudgetText
from service.core.text import RequestBody
from service.models.schemas import ModelFilter
from zoo.catalog import Modality
from zoo.text_config import Pooling

RankingState = Literal["queued", "running", "done", "failed", "cancelled"]
EntryState = Literal["waiting", "running", "done", "failed"]


class RankingCreate(RequestBody):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"dataset": "ds_01k0", "models": {"name": "resnet*", "max_params": 30000000}},
                {"dataset": "ds_01k0", "models": ["resnet18.a1_in1k"], "estimators": ["logme", "knn"]},
            ]
        },
    )

    dataset: str = Field(description="id or name of a dataset")
    models: list[str] | ModelFilter = Field(description="ids or names, or a filter over the catalog")
    estimators: list[str] | None = Field(default=None, min_length=1, description="the default panel if unset")
    ordered_by: str | None = Field(default=None, description="the estimator that orders the entries")
    budget: BudgetText | None = Field(
        default=None,
        description="race the candidates over growing samples within it (`90s`, `10m`, `2h`, `5000img`): who has less "
        "than a 5 % chance to be among the first three on all images is dropped",
    )


class ScoreView(BaseModel):
    value: float | None
    stderr: float | None
    diagnostics: dict[str, Any]
    degenerate: str | None = Field(default=None, description="the reason, where there is no value")
    seconds: float
    version: int | None = Field(default=None, description="of the estimator; numbers of two versions do not compare")


class TextView(BaseModel):
    """Which part of which encoder: entries of one `encoder`, pooling and length differ in the layer alone."""

    encoder: str = Field(description="its weights")
    pooling: Pooling
    layer: int | None = Field(description="1 is the first; null where the encoder's own output is taken")
    max_length: int | None = Field(description="tokens after which a text is cut")
    texts_cut: int | None = Field(description="of the scored texts, those that are longer; null until it is scored")


class EntryView(BaseModel):
    rank: int | None = Field(description="place by `ordered_by`; null where there is no score")
    tied_with: list[str] = Field(
        description="models whose difference from this one lies within the error of it (paired jackknife, 90 %)"
    )
    model: str
    model_id: str
    state: EntryState
    scores: dict[str, ScoreView]
    params: int | None
    feature_dim: int | None
    images_per_second: float | None = Field(description="images or texts, whichever the dataset holds")
    forward_bytes: int | None = Field(
        default=None, description="weights, and the most that tensors hold while one image or text passes"
    )
    text: TextView | None = Field(default=None, description="of a text encoder")
    error: str | None
    sample: int | None = Field(default=None, description="in a race: the images that its scores are of")
    chance: float | None = Field(default=None, description="in a race: to be among the first three on all images")
    dropped: str | None = Field(default=None, description="in a race: why it went no further")


class RungView(BaseModel):
    sample: int = Field(description="images that this rung looks at, those of the rung before among them")
    candidates: int
    dropped: int
    left: int


class RaceView(BaseModel):
    budget: str
    images: int | None = Field(description="of the dataset's split; null until it is planned")
    sample: int | None = Field(description="of the rung at hand, or the last one")
    embedded_at_most: int = Field(description="images, each counted once a model; less where some were embedded before")
    rungs: list[RungView]
    ended: Literal["decided", "budget", "all images"] | None = Field(
        description="decided: no more are left than are wanted; null while it lasts"
    )


class DatasetBrief(BaseModel):
    id: str
    name: str
    modality: Modality = "image"
    fingerprint: str | None
    n_images: int | None
    n_classes: int | None


class ReferenceBrief(BaseModel):
    id: str
    name: str | None = Field(description="null once that dataset is removed")
    fingerprint: str


class Progress(BaseModel):
    models_done: int
    models_total: int
    images_embedded: int
    images_to_embed: int
    images_per_second: float | None
    seconds_left: float | None
    stage: str
    stage_seconds: dict[str, float] = Field(
        default_factory=dict,
        description="time in reading and decoding, forward passes and writing, summed over threads and tasks",
    )


class RankingStatus(BaseModel):
    """What changes while a ranking runs; its entries are read at `GET /v1/rankings/{id}`."""

    id: str
    state: str
    progress: Progress
    race: RaceView | None = None


class RankingView(BaseModel):
    id: str
    state: RankingState
    dataset: DatasetBrief
    split: str | None = Field(
        description="which images were scored: a ranking uses the training split where there is one"
    )
    reference: ReferenceBrief | None = Field(
        description="the reference set when the ranking was asked for; null where no estimator needs one or none was"
    )
    estimators: list[str]
    ordered_by: str
    progress: Progress
    race: RaceView | None = Field(default=None, description="of a ranking with a budget")
    entries: list[EntryView]
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RankingBrief(BaseModel):
    id: str
    state: RankingState
    dataset: DatasetBrief
    ordered_by: str
    n_models: int
    created_at: datetime
    finished_at: datetime | None


class RankingPage(BaseModel):
    items: list[RankingBrief]
    next_cursor: str | None
