"""Rankings: one request each, with an entry for every candidate."""

from datetime import datetime
from typing import Any

from sqlalchemy import Double, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class RankingRow(Base):
    __tablename__ = "rankings"
    __table_args__ = (Index("ix_rankings_project_id_id", "project_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"), index=True)
    request: Mapped[dict[str, Any]]
    estimators: Mapped[list[Any]]
    ordered_by: Mapped[str] = mapped_column(String(60))
    split: Mapped[str | None] = mapped_column(String(20))  # which images: known once planned
    # The reference set at planning; no foreign key, for a ranking outlives it.
    reference_dataset_id: Mapped[str | None] = mapped_column(String(40))
    reference_fingerprint: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(20))  # queued | running | done | failed | cancelled
    error: Mapped[dict[str, Any] | None]
    prescore_id: Mapped[str | None] = mapped_column(String(40), index=True)  # which hears when it has ended
    race: Mapped[dict[str, Any] | None]  # of a ranking with a budget: its rungs so far
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class EntryRow(Base):
    __tablename__ = "ranking_entries"
    __table_args__ = (Index("ix_ranking_entries_model_id", "model_id"),)

    ranking_id: Mapped[str] = mapped_column(ForeignKey("rankings.id", ondelete="CASCADE"), primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    state: Mapped[str] = mapped_column(String(20))  # waiting | running | done | failed
    error: Mapped[str | None] = mapped_column(Text)
    extractor_id: Mapped[str | None] = mapped_column(String(64))
    sample: Mapped[int | None]  # in a race: the images that its scores are of
    chance: Mapped[float | None] = mapped_column(Double)  # in a race: to be among the first on all images
    dropped: Mapped[str | None] = mapped_column(Text)  # in a race: why it went no further
