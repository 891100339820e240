"""Rows of projects."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.keys.tables import ProjectRow


def lock_project(session: Session, project_id: str, /) -> None:
    """Until the transaction ends, whoever else looks whether a name or an archive is known waits.

    On SQLite every writing transaction is alone. Rows that merely refer to the project can be added meanwhile.
    """
    session.execute(select(ProjectRow.id).where(ProjectRow.id == project_id).with_for_update(key_share=True))
