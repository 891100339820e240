"""Scores: unique on what they were computed from and how."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class ScoringRow(Base):
    """A request to score features that a user brought; its file goes once it is answered."""

    __tablename__ = "scorings"
    __table_args__ = (Index("ix_scorings_project_id_created_at", "project_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    estimators: Mapped[list[Any]]
    state: Mapped[str] = mapped_column(String(20))  # queued | done | failed
    scores: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class ScoreRow(Base):
    __tablename__ = "scores"
    __table_args__ = (
        UniqueConstraint("project_id", "evidence_id", "estimator", "version", "params_id"),
        Index("ix_scores_project_id_fingerprint", "project_id", "fingerprint"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    evidence_id: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str] = mapped_column(String(64))
    extractor_id: Mapped[str] = mapped_column(String(64))
    estimator: Mapped[str] = mapped_column(String(60))
    version: Mapped[int]
    params_id: Mapped[str] = mapped_column(String(64))
    value: Mapped[float | None]
    stderr: Mapped[float | None]
    replicates: Mapped[list[Any]]
    diagnostics: Mapped[dict[str, Any]]
    degenerate: Mapped[str | None] = mapped_column(Text)  # the reason, where there is no value
    seconds: Mapped[float]
    created_at: Mapped[datetime]
