"""What the webhooks' endpoints take and give."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.core.text import RequestBody
from service.webhooks.events import Event

DeliveryState = Literal["queued", "sending", "done", "failed"]


class WebhookCreate(RequestBody):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"url": "https://hooks.example.com/zoo", "events": ["ranking.completed"]}]},
    )

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    events: list[Event] = Field(default_factory=list, max_length=50, description="every event if none is named")


class WebhookView(BaseModel):
    id: str
    url: str
    events: list[str] = Field(description="none: every event")
    enabled: bool
    disabled_reason: str | None = Field(description="a delivery that succeeds, such as a ping, enables it again")
    failing_since: datetime | None = Field(description="the first failed attempt since one succeeded")
    created_at: datetime


class NewWebhook(WebhookView):
    secret: str = Field(description="shown this once; it signs every request")


class WebhookList(BaseModel):
    items: list[WebhookView]


class AttemptView(BaseModel):
    at: datetime
    milliseconds: int
    status: int | None = Field(description="null where there was no answer")
    error: str | None
    answer: str | None = Field(description="its beginning")


class DeliveryView(BaseModel):
    id: str = Field(description="the `webhook-id` of every attempt")
    webhook_id: str
    event: str
    state: DeliveryState
    attempts: list[AttemptView] = Field(description="the latest ones, oldest first")
    next_attempt_at: datetime | None
    body: str
    created_at: datetime
    finished_at: datetime | None


class DeliveryPage(BaseModel):
    items: list[DeliveryView]
    next_cursor: str | None
