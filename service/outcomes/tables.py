"""Measured fine-tuned accuracies. Rows are only ever added: a later version of the same pair and recipe supersedes."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class OutcomeRow(Base):
    """`subject` is the dataset's fingerprint where the project has the dataset, and otherwise its name."""

    __tablename__ = "outcomes"
    __table_args__ = (
        UniqueConstraint("project_id", "subject", "model", "recipe", "version"),
        Index("ix_outcomes_dataset_id", "dataset_id"),
        Index("ix_outcomes_model_id", "model_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    subject: Mapped[str] = mapped_column(String(300))
    dataset: Mapped[str] = mapped_column(String(300))
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(300))
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id", ondelete="SET NULL"))
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    extractor_id: Mapped[str | None] = mapped_column(String(64))
    accuracy: Mapped[float]
    n_test: Mapped[int | None]
    recipe: Mapped[str] = mapped_column(String(200))
    source: Mapped[str] = mapped_column(String(500))
    version: Mapped[int]
    created_at: Mapped[datetime]
