"""Projects: the wall between users. A project is part of the key of everything that is stored."""

from datetime import datetime

from sqlalchemy import Float, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.core.db import Base

DEFAULT_PROJECT = "default"  # made by the first migration; embedded mode has no other


class ProjectRow(Base):
    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime]
    # Seconds since 1970, database clock: when one of its tasks was last claimed.
    served_at: Mapped[float] = mapped_column(Float(precision=53), server_default="0")


class KeyRow(Base):
    """An API key. The secret itself is shown once and kept nowhere: 256 random bits need no slow hash."""

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_project_id_created_at", "project_id", "created_at"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str] = mapped_column(String(200))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scope: Mapped[str] = mapped_column(String(20))  # read | write | admin
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
