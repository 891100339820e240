"""Keys in SQL: whoever inserts one first does the work; whoever comes at the same moment waits for its end."""

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.idempotency.tables import AnswerRow


def find(session: Session, project_id: str, key: str, /, *, since: datetime) -> AnswerRow | None:
    row = session.get(AnswerRow, (project_id, key))
    return row if row is not None and row.created_at > since else None


def claim(
    session: Session, project_id: str, key: str, /, *, request_sha256: str, since: datetime
) -> tuple[AnswerRow, bool]:
    """The key's row, and whether it is this transaction's to fill.

    On PostgreSQL the insertion waits for another transaction that holds the key; on SQLite writers are alone anyway.
    """
    session.execute(
        delete(AnswerRow).where(AnswerRow.project_id == project_id, AnswerRow.key == key, AnswerRow.created_at <= since)
    )
    known = session.get(AnswerRow, (project_id, key))
    if known is not None:
        return known, False
    row = AnswerRow(project_id=project_id, key=key, request_sha256=request_sha256, status=0, created_at=utc_now())
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        known = session.get(AnswerRow, (project_id, key))
        if known is None:
            raise
        return known, False
    return row, True


def oldest(session: Session, project_id: str, /) -> datetime | None:
    query = select(AnswerRow.created_at).where(AnswerRow.project_id == project_id)
    return session.scalars(query.order_by(AnswerRow.created_at).limit(1)).first()


def forget(session: Session, project_id: str, /, *, until: datetime) -> None:
    session.execute(delete(AnswerRow).where(AnswerRow.project_id == project_id, AnswerRow.created_at <= until))
