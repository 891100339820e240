"""What scoring one's own features gives."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field


class ScoringView(BaseModel):
    id: str
    state: Literal["queued", "done", "failed"]
    estimators: list[str]
    scores: dict[str, dict[str, Any]] = Field(
        description="by estimator: value, stderr, diagnostics and seconds; or degenerate or missing, the reason",
    )
    error: dict[str, Any] | None
    created_at: datetime
    finished_at: datetime | None
