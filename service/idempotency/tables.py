"""Answers that were given, so that a request which is sent again does nothing again."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base


class AnswerRow(Base):
    """Written in the transaction that did the work: neither is there without the other."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_project_id_created_at", "project_id", "created_at"),)

    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    location: Mapped[str | None] = mapped_column(String(400))
    body: Mapped[str | None] = mapped_column(Text)  # null where the answer held a secret
    created_at: Mapped[datetime]
