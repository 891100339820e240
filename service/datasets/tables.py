"""Target datasets. Images lie in blobs and the manifest file; SQL holds one row a dataset."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        Index("ix_datasets_project_id_id", "project_id", "id"),
        Index("ix_datasets_project_id_name", "project_id", "name"),
        Index("ix_datasets_project_id_source_digest", "project_id", "source_digest"),
        Index("ix_datasets_project_id_fingerprint", "project_id", "fingerprint"),
        Index("ix_datasets_parent_id", "parent_id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"))
    changes: Mapped[dict[str, Any] | None]  # against the parent
    name: Mapped[str] = mapped_column(String(300))
    modality: Mapped[str] = mapped_column(String(10), server_default="image")  # image | text
    state: Mapped[str] = mapped_column(String(20))  # checking | sealed | refused
    source_digest: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    # What it was uploaded as counts against its project's quota; a version's images are those that it adds.
    source_bytes: Mapped[int] = mapped_column(BigInteger, server_default="0")
    source_images: Mapped[int] = mapped_column(server_default="0")
    n_images: Mapped[int | None]
    n_classes: Mapped[int | None]
    classes: Mapped[list[Any] | None]
    report: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    sealed_at: Mapped[datetime | None]


class ReferenceSetRow(Base):
    """The project's reference set: one sealed dataset, or no row."""

    __tablename__ = "reference_sets"

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    fingerprint: Mapped[str] = mapped_column(String(64))
    set_at: Mapped[datetime]
