"""Inspections in SQL."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.inspections.tables import InspectionRow

OPEN = ("queued", "running")


def add(session: Session, project_id: str, /, *, dataset_id: str, model_id: str) -> InspectionRow:
    row = InspectionRow(
        id=new_id("in"),
        project_id=project_id,
        dataset_id=dataset_id,
        model_id=model_id,
        state="queued",
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def find(session: Session, project_id: str, ident: str, /) -> InspectionRow | None:
    query = select(InspectionRow).where(InspectionRow.project_id == project_id, InspectionRow.id == ident)
    return session.scalars(query).one_or_none()


def get(session: Session, project_id: str, ident: str, /) -> InspectionRow:
    row = find(session, project_id, ident)
    if row is None:
        raise NotFound("inspection", ident)
    return row


def under_way(session: Session, dataset_id: str, model_id: str, /) -> InspectionRow | None:
    query = select(InspectionRow).where(
        InspectionRow.dataset_id == dataset_id, InspectionRow.model_id == model_id, InspectionRow.state.in_(OPEN)
    )
    return session.scalars(query.order_by(InspectionRow.id).limit(1)).first()


def latest(session: Session, dataset_id: str, /) -> list[InspectionRow]:
    """The newest of each model, newest first."""
    query = select(InspectionRow).where(InspectionRow.dataset_id == dataset_id).order_by(InspectionRow.id.desc())
    newest: dict[str, InspectionRow] = {}
    for row in session.scalars(query):
        newest.setdefault(row.model_id, row)
    return list(newest.values())


def datasets_embedded_by(session: Session, project_id: str, extractor_id: str, /) -> set[str]:
    query = select(InspectionRow.dataset_id).where(
        InspectionRow.project_id == project_id, InspectionRow.extractor_id == extractor_id
    )
    return set(session.scalars(query))
