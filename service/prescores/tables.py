"""Prescores, their pairs, and how recommendations changed by them."""

from datetime import datetime
from typing import Any

from sqlalchemy import Float, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class PrescoreRow(Base):
    __tablename__ = "prescores"
    __table_args__ = (Index("ix_prescores_project_id_created_at", "project_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    request: Mapped[dict[str, Any]]
    scheduled: Mapped[bool]
    state: Mapped[str] = mapped_column(String(20))  # queued | running | done | failed
    deadline: Mapped[float | None] = mapped_column(Float(precision=53))  # seconds since 1970, database clock
    error: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class PrescoredDatasetRow(Base):
    """One dataset of a prescore: its ranking, and what was recommended before it."""

    __tablename__ = "prescored_datasets"

    prescore_id: Mapped[str] = mapped_column(ForeignKey("prescores.id", ondelete="CASCADE"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), primary_key=True)
    ranking_id: Mapped[str] = mapped_column(String(40))  # no foreign key: rankings may be removed
    before: Mapped[list[Any]]  # names of the models recommended first


class PrescorePairRow(Base):
    """While a pair is open, its ranking's entry tells how far it is."""

    __tablename__ = "prescore_pairs"
    __table_args__ = (
        Index("ix_prescore_pairs_dataset_id", "dataset_id"),
        Index("ix_prescore_pairs_model_id", "model_id"),
    )

    prescore_id: Mapped[str] = mapped_column(ForeignKey("prescores.id", ondelete="CASCADE"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)  # the cheapest is the first
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    images: Mapped[int]  # that had to be embedded
    state: Mapped[str] = mapped_column(String(20))  # open | done | failed | skipped
    reason: Mapped[str | None] = mapped_column(Text)


class RecommendationChangeRow(Base):
    __tablename__ = "recommendation_changes"
    __table_args__ = (Index("ix_recommendation_changes_project_id_id", "project_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    prescore_id: Mapped[str | None] = mapped_column(ForeignKey("prescores.id", ondelete="SET NULL"))
    ranking_id: Mapped[str] = mapped_column(String(40))
    before: Mapped[list[Any]]
    after: Mapped[list[Any]]
    created_at: Mapped[datetime]
