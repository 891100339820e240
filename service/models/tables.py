"""Pretrained models: a card each, and what the card's filters and sorts need as columns."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class ModelRow(Base):
    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("project_id", "name"),
        Index("ix_models_project_id_params", "project_id", "params"),
        Index("ix_models_project_id_weights_sha256", "project_id", "weights_sha256"),
        Index("ix_models_project_id_family", "project_id", "family"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(300))
    library: Mapped[str] = mapped_column(String(40))
    architecture: Mapped[str] = mapped_column(String(200))
    family: Mapped[str | None] = mapped_column(String(100))
    params: Mapped[int | None] = mapped_column(BigInteger)
    macs: Mapped[int | None] = mapped_column(BigInteger)
    feature_dim: Mapped[int | None]
    input_size: Mapped[int]
    licence: Mapped[str | None] = mapped_column(String(200))
    pretrained_on: Mapped[str | None] = mapped_column(String(300))
    imagenet_top1: Mapped[float | None]
    search_text: Mapped[str] = mapped_column(Text)
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(20))  # unresolved | ready | failed
    error: Mapped[str | None] = mapped_column(Text)
    card: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    quarantined_at: Mapped[datetime | None]
    quarantine_reason: Mapped[str | None] = mapped_column(Text)  # set: rankings skip the model


class ModelFailureRow(Base):
    """The model failed by itself on a dataset, and has not succeeded on it since."""

    __tablename__ = "model_failures"

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    failed_at: Mapped[datetime]


class ModelTagRow(Base):
    __tablename__ = "model_tags"
    __table_args__ = (Index("ix_model_tags_key_value", "key", "value"),)

    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    value: Mapped[str] = mapped_column(String(300))
