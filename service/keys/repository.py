"""Rows of projects and keys."""

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, update
from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.keys.tables import KeyRow, ProjectRow


def lock_project(session: Session, project_id: str, /) -> None:
    """Until the transaction ends, whoever else looks whether a name or an archive is known waits.

    On SQLite every writing transaction is alone. Rows that merely refer to the project can be added meanwhile.
    """
    session.execute(select(ProjectRow.id).where(ProjectRow.id == project_id).with_for_update(key_share=True))


def project_named(session: Session, name: str, /) -> ProjectRow:
    """The project of this name, made if there is none."""
    row = session.scalar(select(ProjectRow).where(ProjectRow.name == name))
    if row is None:
        row = ProjectRow(id=new_id("pr"), name=name, created_at=utc_now())
        session.add(row)
        session.flush()
    return row


def project_ids(session: Session, /) -> list[str]:
    return list(session.scalars(select(ProjectRow.id).order_by(ProjectRow.id)))


def project_names(session: Session, ids: set[str], /) -> dict[str, str]:
    query = select(ProjectRow.id, ProjectRow.name).where(ProjectRow.id.in_(ids))
    return {row.id: row.name for row in session.execute(query)}


def add(
    session: Session,
    project_id: str,
    /,
    *,
    ident: str,
    name: str,
    scope: str,
    secret_sha256: str,
    expires_at: datetime | None,
) -> KeyRow:
    row = KeyRow(
        id=ident,
        project_id=project_id,
        name=name,
        scope=scope,
        secret_sha256=secret_sha256,
        created_at=utc_now(),
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    return row


def find(session: Session, ident: str, /) -> KeyRow | None:
    return session.get(KeyRow, ident)


def get(session: Session, ident: str, /, *, project_id: str | None = None) -> KeyRow:
    row = find(session, ident)
    if row is None or (project_id is not None and row.project_id != project_id):
        raise NotFound("key", ident)
    return row


def keys_of(session: Session, project_id: str | None, /) -> list[KeyRow]:
    """Newest first; of every project for None."""
    query = select(KeyRow).order_by(KeyRow.created_at.desc(), KeyRow.id.desc())
    return list(session.scalars(query if project_id is None else query.where(KeyRow.project_id == project_id)))


def count_usable(session: Session, /) -> int:
    usable = (KeyRow.revoked_at.is_(None)) & (or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > utc_now()))
    return session.scalar(select(func.count()).select_from(KeyRow).where(usable)) or 0


def touch(session: Session, ident: str, /, *, not_within: timedelta) -> None:
    """Notes the use of a key, unless one was noted shortly before."""
    now = utc_now()
    session.execute(
        update(KeyRow)
        .where(KeyRow.id == ident, or_(KeyRow.last_used_at.is_(None), KeyRow.last_used_at < now - not_within))
        .values(last_used_at=now)
    )
