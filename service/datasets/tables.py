"""Target datasets. Images lie in blobs and the manifest file; SQL holds one row a dataset."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class DatasetRow(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        Index("ix_datasets_project_id_created_at", "project_id", "created_at"),
        Index("ix_datasets_project_id_source_digest", "project_id", "source_digest"),
        Index("ix_datasets_project_id_fingerprint", "project_id", "fingerprint"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(300))
    state: Mapped[str] = mapped_column(String(20))  # checking | sealed | refused
    source_digest: Mapped[str] = mapped_column(String(64))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    n_images: Mapped[int | None]
    n_classes: Mapped[int | None]
    classes: Mapped[list[Any] | None]
    report: Mapped[dict[str, Any] | None]
    problem: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    sealed_at: Mapped[datetime | None]
