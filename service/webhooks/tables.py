"""Webhooks, and the outbox of what is to be sent to them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class WebhookRow(Base):
    """The secret is kept as it is: unlike a key's, it is needed for every signature."""

    __tablename__ = "webhooks"
    __table_args__ = (Index("ix_webhooks_project_id_created_at", "project_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    url: Mapped[str] = mapped_column(String(2000))
    events: Mapped[list[Any]]  # none: every event
    secret: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime]
    failing_since: Mapped[float | None] = mapped_column(Float(precision=53))  # seconds since 1970, database clock
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(Text)


class DeliveryRow(Base):
    """One event for one webhook: written in the transaction that made it happen, sent by a worker under a lease."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index("ix_webhook_deliveries_due", "state", "not_before"),
        Index("ix_webhook_deliveries_webhook_id", "webhook_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)  # the webhook-id of every attempt
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(60))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(20))  # queued | sending | done | failed
    tries: Mapped[int]  # since it was last put into the queue by hand
    attempts: Mapped[list[Any]]  # the log: when, how long, status or error, the beginning of the answer
    not_before: Mapped[float] = mapped_column(Float(precision=53))  # seconds since 1970, database clock
    fence: Mapped[int]
    lease_until: Mapped[float | None] = mapped_column(Float(precision=53))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
