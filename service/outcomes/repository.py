"""Outcomes in SQL."""

from collections.abc import Collection, Iterator, Sequence

from sqlalchemy import ColumnElement, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from service.core.errors import NotFound
from service.core.pagination import Cursor, Page
from service.outcomes.tables import OutcomeRow

ORDER = "-created_at"
Key = tuple[str, str, str]  # subject, model, recipe
_AT_ONCE = 500


def add(session: Session, rows: Sequence[OutcomeRow], /) -> None:
    session.add_all(rows)
    session.flush()


def get(session: Session, project_id: str, ident: str, /) -> OutcomeRow:
    row = session.scalar(select(OutcomeRow).where(OutcomeRow.project_id == project_id, OutcomeRow.id == ident))
    if row is None:
        raise NotFound("outcome", ident)
    return row


def latest(session: Session, project_id: str, subjects: Collection[str], /) -> dict[Key, OutcomeRow]:
    """What holds now for these datasets."""
    found: dict[Key, OutcomeRow] = {}
    wanted = sorted(subjects)
    for start in range(0, len(wanted), _AT_ONCE):
        query = select(OutcomeRow).where(
            OutcomeRow.project_id == project_id, OutcomeRow.subject.in_(wanted[start : start + _AT_ONCE]), _holds()
        )
        found |= {(row.subject, row.model, row.recipe): row for row in session.scalars(query)}
    return found


def tie(session: Session, project_id: str, dataset_id: str, fingerprint: str, /) -> None:
    """Gives outcomes that came before the dataset was sealed its fingerprint, where none came since for the same."""
    since = aliased(OutcomeRow)
    again = exists().where(
        and_(
            since.project_id == OutcomeRow.project_id,
            since.subject == fingerprint,
            since.model == OutcomeRow.model,
            since.recipe == OutcomeRow.recipe,
        )
    )
    early = select(OutcomeRow).where(
        OutcomeRow.project_id == project_id,
        OutcomeRow.dataset_id == dataset_id,
        OutcomeRow.fingerprint.is_(None),
        ~again,
    )
    for row in session.scalars(early):
        row.subject = row.fingerprint = fingerprint
    session.flush()


def list_page(
    session: Session,
    project_id: str,
    /,
    *,
    limit: int,
    cursor: str | None,
    dataset: str | None,
    model: str | None,
    recipe: str | None,
    history: bool,
) -> Page[OutcomeRow]:
    """Newest first; `dataset` and `model` are ids, names, or a fingerprint."""
    query = select(OutcomeRow).where(OutcomeRow.project_id == project_id)
    if not history:
        query = query.where(_holds())
    if dataset is not None:
        named = (OutcomeRow.dataset == dataset, OutcomeRow.dataset_id == dataset, OutcomeRow.fingerprint == dataset)
        query = query.where(or_(*named))
    if model is not None:
        query = query.where(or_(OutcomeRow.model == model, OutcomeRow.model_id == model))
    if recipe is not None:
        query = query.where(OutcomeRow.recipe == recipe)
    if cursor is not None:
        query = query.where(OutcomeRow.id < Cursor.decode(cursor, sort=ORDER).ident)
    rows = list(session.scalars(query.order_by(OutcomeRow.id.desc()).limit(limit + 1)))
    following = Cursor(None, rows[limit - 1].id).encode(sort=ORDER) if len(rows) > limit else None
    return Page(rows[:limit], following)


def all_of(session: Session, project_id: str, /, *, history: bool) -> Iterator[OutcomeRow]:
    """Oldest first."""
    query = select(OutcomeRow).where(OutcomeRow.project_id == project_id)
    if not history:
        query = query.where(_holds())
    return iter(session.scalars(query.order_by(OutcomeRow.id)))


def _holds() -> ColumnElement[bool]:
    later = aliased(OutcomeRow)
    return ~exists().where(
        and_(
            later.project_id == OutcomeRow.project_id,
            later.subject == OutcomeRow.subject,
            later.model == OutcomeRow.model,
            later.recipe == OutcomeRow.recipe,
            later.version > OutcomeRow.version,
        )
    )
