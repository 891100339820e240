"""Scores: unique on what they were computed from and how."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


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
