"""What the inspections' endpoints take and give."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.core.text import RequestBody

State = Literal["queued", "running", "done", "failed"]


class InspectionCreate(RequestBody):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=300, description="id or name", examples=["resnet18.a1_in1k"])


class InspectionView(BaseModel):
    id: str
    dataset_id: str
    dataset: str
    model_id: str
    model: str
    extractor_id: str | None
    state: State
    progress: dict[str, Any]
    result: dict[str, Any] | None = Field(
        description="near_copies, leaks and label_errors, each with its rule, its total and the first hundred found"
    )
    error: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None


class NeighbourView(BaseModel):
    path: str
    hash: str
    split: str
    label: str
    similarity: float


class ImageView(BaseModel):
    path: str
    hash: str
    split: str
    label: str


class NeighboursView(BaseModel):
    dataset_id: str
    model: str
    extractor_id: str
    image: ImageView
    neighbours: list[NeighbourView] = Field(description="nearest first, by the cosine of the features")
    searched: int = Field(description="images of the dataset that the model has embedded")
    images: int = Field(description="images of the dataset")
    exact: bool = Field(description="the image was compared with every one searched")
    index: str


class MapPoint(ImageView):
    x: float
    y: float


class MapView(BaseModel):
    dataset_id: str
    model: str
    extractor_id: str
    points: list[MapPoint] = Field(description="at most 2,000 images, a fair sample where there are more")
    embedded: int = Field(description="images of the dataset that the model has embedded")
    shares: tuple[float, float] = Field(description="of the features' variance along each of the two axes")
