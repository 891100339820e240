"""What the datasets' endpoints give."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel


class DatasetView(BaseModel):
    id: str
    name: str
    state: Literal["checking", "sealed", "refused"]
    fingerprint: str | None
    n_images: int | None
    n_classes: int | None
    classes: list[str] | None
    report: dict[str, Any] | None
    problem: dict[str, Any] | None
    progress: dict[str, Any]
    created_at: datetime
    sealed_at: datetime | None


class DatasetPage(BaseModel):
    items: list[DatasetView]
    next_cursor: str | None
