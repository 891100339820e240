"""Segments of embeddings (one row a file, never one an embedding) and what is known of each extractor."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class ExtractorRow(Base):
    __tablename__ = "extractors"
    __table_args__ = (Index("ix_extractors_project_id_created_at", "project_id", "created_at"),)

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    identity: Mapped[dict[str, Any]]
    images_per_second: Mapped[float | None]
    forward_bytes: Mapped[int | None] = mapped_column(BigInteger)
    device: Mapped[str | None] = mapped_column(String(100))
    created_at: Mapped[datetime]


class SegmentRow(Base):
    __tablename__ = "segments"
    __table_args__ = (Index("ix_segments_lookup", "project_id", "extractor_id", "kind", "state"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    extractor_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(20))  # features | source_probs
    state: Mapped[str] = mapped_column(String(20))  # active | superseded | damaged
    storage: Mapped[str] = mapped_column(String(20), server_default="float32")  # float32 | float16
    n_rows: Mapped[int]
    dim: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    vectors_sha256: Mapped[str] = mapped_column(String(64))
    hashes_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    superseded_at: Mapped[datetime | None]


class PrecisionRow(Base):
    """Decided once, by a probe, so that features of two precisions never meet under one model."""

    __tablename__ = "precisions"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    extractor_id: Mapped[str] = mapped_column(String(64), primary_key=True)  # of the model in float32
    precision: Mapped[str] = mapped_column(String(20))
    parity: Mapped[dict[str, Any]]
    device: Mapped[str] = mapped_column(String(100))
    decided_at: Mapped[datetime]
