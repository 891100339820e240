"""What a prescore takes and gives."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.core.budget import BudgetText
from service.core.text import RequestBody
from service.models.schemas import ModelFilter

PrescoreState = Literal["queued", "running", "done", "failed"]
PairState = Literal["waiting", "running", "done", "failed", "skipped"]


class PrescoreCreate(RequestBody):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"new": True}, {"models": {"name": "resnet*"}, "datasets": "flowers*", "budget": "2h"}]
        },
    )

    models: list[str] | ModelFilter | None = Field(
        default=None, description="ids or names, or a filter over the catalog; every model if unset"
    )
    datasets: str | None = Field(
        default=None, max_length=300, description="glob over names of sealed datasets; every one if unset"
    )
    new: bool = Field(
        default=False, description="only pairs that have no score yet and that no earlier prescore has seen fail"
    )
    budget: BudgetText | None = None


class PairCounts(BaseModel):
    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0


class PrescoreView(BaseModel):
    id: str
    state: PrescoreState
    request: PrescoreCreate
    scheduled: bool = Field(description="the service itself asked for it, by its schedule")
    pairs: PairCounts
    images_to_embed: int = Field(description="over all pairs that are computed, each image once a model")
    rankings: list[str] = Field(description="one a dataset; their entries hold the scores")
    error: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None


class PrescorePage(BaseModel):
    items: list[PrescoreView]
    next_cursor: str | None


class PairView(BaseModel):
    dataset: str
    dataset_id: str
    model: str
    model_id: str
    state: PairState
    reason: str | None = Field(description="why it failed or was skipped")
    images: int = Field(description="that had to be embedded when it was planned")
    ranking: str | None


class PairPage(BaseModel):
    items: list[PairView] = Field(description="cheapest first")
    next_cursor: str | None


class ChangeView(BaseModel):
    id: str
    dataset: str
    dataset_id: str
    before: list[str] = Field(description="the models that were recommended first, best first, three at most")
    after: list[str]
    entered: list[str]
    left: list[str]
    ranking: str = Field(description="the ranking that the new recommendation follows")
    prescore: str | None
    created_at: datetime


class ChangePage(BaseModel):
    items: list[ChangeView]
    next_cursor: str | None
