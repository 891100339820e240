"""What the datasets' endpoints give."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.core.text import RequestBody
from zoo.catalog import Modality

MAX_CHANGES = 1_000_000
ImageName = Annotated[str, Field(min_length=1, max_length=1100)]


class InspectionBrief(BaseModel):
    """The newest inspection by one model."""

    id: str
    model: str
    state: Literal["queued", "running", "done", "failed"]
    found: dict[str, int] | None = Field(description="how many near_copies (groups), leaks and label_errors")
    created_at: datetime


class DatasetView(BaseModel):
    id: str
    name: str
    modality: Modality = Field(description="what it holds; images and texts are counted alike, as n_images")
    state: Literal["checking", "sealed", "refused"]
    fingerprint: str | None
    n_images: int | None
    n_classes: int | None
    classes: list[str] | None
    parent_id: str | None = Field(
        default=None, description="the dataset that this is a version of, as long as that is not removed"
    )
    changes: dict[str, Any] | None = Field(default=None, description="of a version: what differs from its parent")
    report: dict[str, Any] | None = Field(description="of one dataset, not in lists")
    inspections: list[InspectionBrief] = Field(default_factory=list, description="of one dataset, not in lists")
    problem: dict[str, Any] | None
    progress: dict[str, Any]
    created_at: datetime
    sealed_at: datetime | None


class VersionCreate(RequestBody):
    """Changes to a sealed dataset. Images are named by path or by content hash (64 hexadecimal digits)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"remove": ["train/cat/17.png"], "relabel": {"train/dog/3.png": "wolf"}, "name": "pets v2"}]
        },
    )

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    remove: list[ImageName] = Field(default_factory=list, max_length=MAX_CHANGES)
    relabel: dict[ImageName, str] = Field(default_factory=dict, max_length=MAX_CHANGES)
    add: str | None = Field(default=None, max_length=300, description="a sealed dataset whose images are added")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.remove or self.relabel or self.add):
            raise ValueError("name at least one change: remove, relabel or add")
        return self


class DatasetPage(BaseModel):
    items: list[DatasetView]
    next_cursor: str | None


class ReferenceRequest(RequestBody):
    model_config = ConfigDict(extra="forbid")

    dataset: str = Field(description="id or name of a sealed dataset", examples=["ds_01k0"])


class ReferenceView(BaseModel):
    dataset: str = Field(description="its id")
    name: str
    fingerprint: str = Field(description="of what was named: rankings record it")
    n_images: int
    set_at: datetime
