"""Tasks: units of work, claimed under a lease, and the workers that claim them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class TaskRow(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        Index("ix_tasks_claim", "state", "priority", "created_at"),
        Index("ix_tasks_subject", "subject_id", "state"),
        Index("ix_tasks_kind_state", "kind", "state"),  # counted at every scrape
        Index("ix_tasks_turn", "project_id", "state", "priority", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    kind: Mapped[str] = mapped_column(String(20))
    subject_id: Mapped[str] = mapped_column(String(40))  # the ranking, dataset, model or scoring it works for
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20))  # queued | running | done | failed | cancelled
    priority: Mapped[int]  # lower goes first
    not_before: Mapped[float]  # seconds since 1970, database clock
    attempts: Mapped[int]
    fence: Mapped[int]  # grows with every claim; a result written under an older one is refused
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[float | None]  # seconds since 1970, database clock
    progress: Mapped[dict[str, Any]]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    origin: Mapped[dict[str, Any] | None]  # the request that it came from, and that request's trace


class WorkerRow(Base):
    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(200), primary_key=True)
    device: Mapped[str] = mapped_column(String(100))
    started_at: Mapped[datetime]
    seen_at: Mapped[float]  # seconds since 1970, database clock


class CounterRow(Base):
    """What workers have counted since the database was made: they serve no metrics themselves, the API shows these."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    label: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[float] = mapped_column(Float(precision=53))


class ScheduleRow(Base):
    """When something that comes again and again is due next: whichever worker sees it first does it."""

    __tablename__ = "schedules"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    due_at: Mapped[float] = mapped_column(Float(precision=53))  # seconds since 1970, database clock
