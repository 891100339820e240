"""Rankings and their entries in SQL."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from service.core.clock import db_epoch, utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.core.pagination import Cursor, Page
from service.datasets.tables import ReferenceSetRow
from service.rankings.schemas import EntryState
from service.rankings.tables import EntryRow, RankingRow

AT_ONCE = 100  # rankings: of many more PostgreSQL reads the whole table of entries
ENDED = ("done", "failed", "cancelled")


def add(
    session: Session,
    project_id: str,
    /,
    *,
    dataset_id: str,
    request: Mapping[str, Any],
    estimators: Sequence[str],
    ordered_by: str,
    reference: ReferenceSetRow | None,
    model_ids: Sequence[str],
    prescore_id: str | None = None,
    raced: bool = False,
) -> RankingRow:
    row = RankingRow(
        id=new_id("rk"),
        project_id=project_id,
        dataset_id=dataset_id,
        request=dict(request),
        estimators=list(estimators),
        ordered_by=ordered_by,
        reference_dataset_id=None if reference is None else reference.dataset_id,
        reference_fingerprint=None if reference is None else reference.fingerprint,
        state="queued",
        prescore_id=prescore_id,
        race={} if raced else None,
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    session.add_all(EntryRow(ranking_id=row.id, model_id=ident, state="waiting") for ident in model_ids)
    session.flush()
    return row


def get(session: Session, project_id: str, ident: str, /, *, lock: bool = False) -> RankingRow:
    query = select(RankingRow).where(RankingRow.project_id == project_id, RankingRow.id == ident)
    row = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("ranking", ident)
    return row


def now(session: Session, /) -> float:
    """By the database's clock, in seconds since 1970."""
    return session.execute(select(db_epoch())).scalar_one()


def entries(session: Session, ranking_id: str, /) -> list[EntryRow]:
    return list(session.scalars(select(EntryRow).where(EntryRow.ranking_id == ranking_id).order_by(EntryRow.model_id)))


class Entry(NamedTuple):
    """An entry that nobody changes: hundreds are read in a third of the time of their rows."""

    model_id: str
    state: EntryState
    error: str | None
    extractor_id: str | None
    sample: int | None
    chance: float | None
    dropped: str | None


def read_entries(session: Session, ranking_id: str, /) -> list[Entry]:
    session.flush()
    columns = [EntryRow.__table__.c[name] for name in Entry._fields]
    query = select(*columns).where(EntryRow.ranking_id == ranking_id).order_by(EntryRow.model_id)
    return [Entry(*row) for row in session.execute(query)]


def count_entries(session: Session, ranking_ids: Sequence[str], /) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(ranking_ids), AT_ONCE):
        query = (
            select(EntryRow.ranking_id, func.count())
            .where(EntryRow.ranking_id.in_(ranking_ids[start : start + AT_ONCE]))
            .group_by(EntryRow.ranking_id)
        )
        found |= {ident: n for ident, n in session.execute(query)}
    return found


def set_entries(
    session: Session,
    ranking_id: str,
    model_ids: Sequence[str],
    /,
    *,
    state: str,
    error: str | None = None,
) -> None:
    session.execute(
        update(EntryRow)
        .where(EntryRow.ranking_id == ranking_id, EntryRow.model_id.in_(model_ids))
        .values(state=state, error=error)
    )


def list_page(
    session: Session, project_id: str, /, *, limit: int, cursor: str | None, dataset_id: str | None = None
) -> Page[RankingRow]:
    """Newest first."""
    query = select(RankingRow).where(RankingRow.project_id == project_id)
    if dataset_id is not None:
        query = query.where(RankingRow.dataset_id == dataset_id)
    if cursor is not None:
        query = query.where(RankingRow.id < Cursor.decode(cursor, sort="-created_at").ident)
    rows = list(session.scalars(query.order_by(RankingRow.id.desc()).limit(limit + 1)))
    following = Cursor(None, rows[limit - 1].id).encode(sort="-created_at") if len(rows) > limit else None
    return Page(rows[:limit], following)


def ended_before(session: Session, until: datetime, /, *, limit: int) -> list[tuple[str, str]]:
    """Project and id of rankings that ended before, the oldest first."""
    query = (
        select(RankingRow.project_id, RankingRow.id)
        .where(RankingRow.state.in_(ENDED), RankingRow.finished_at < until)
        .order_by(RankingRow.id)
        .limit(limit)
    )
    return [(row.project_id, row.id) for row in session.execute(query)]


def ids_of_dataset(session: Session, dataset_id: str, /) -> list[str]:
    return list(session.scalars(select(RankingRow.id).where(RankingRow.dataset_id == dataset_id)))


def open_rankings_against(session: Session, project_id: str, dataset_id: str, /) -> list[str]:
    """Rankings that have not ended and have this dataset as their reference set."""
    query = select(RankingRow.id).where(
        RankingRow.project_id == project_id,
        RankingRow.reference_dataset_id == dataset_id,
        RankingRow.state.not_in(ENDED),
    )
    return list(session.scalars(query))


def open_rankings_of_model(session: Session, model_id: str, /) -> list[str]:
    query = (
        select(RankingRow.id)
        .join(EntryRow, EntryRow.ranking_id == RankingRow.id)
        .where(EntryRow.model_id == model_id, RankingRow.state.not_in(ENDED))
    )
    return list(session.scalars(query))


def extractors_in_use(session: Session, project_id: str, /) -> set[str]:
    """Those of rankings that have not ended."""
    query = (
        select(EntryRow.extractor_id)
        .join(RankingRow, RankingRow.id == EntryRow.ranking_id)
        .where(RankingRow.project_id == project_id, RankingRow.state.not_in(ENDED), EntryRow.extractor_id.is_not(None))
    )
    return {ident for ident in session.scalars(query) if ident is not None}


def embedded_by(session: Session, project_id: str, extractor_id: str, /) -> set[tuple[str, str | None]]:
    """The (dataset, split) pairs that rankings have had the extractor embed; no split is the whole dataset."""
    query = (
        select(RankingRow.dataset_id, RankingRow.split, RankingRow.reference_dataset_id)
        .join(EntryRow, EntryRow.ranking_id == RankingRow.id)
        .where(RankingRow.project_id == project_id, EntryRow.extractor_id == extractor_id)
    )
    found: set[tuple[str, str | None]] = set()
    for dataset_id, split, reference_id in session.execute(query):
        found.add((dataset_id, split))
        if reference_id is not None:
            found.add((reference_id, None))
    return found


def newest_of_model(session: Session, model_id: str, /, *, limit: int, before: str | None = None) -> list[str]:
    """The newest ended ranking of each dataset that the model was in, newest first; `before` is one of them."""
    newest = (
        select(func.max(RankingRow.id))  # ids grow with time
        .join(EntryRow, EntryRow.ranking_id == RankingRow.id)
        .where(EntryRow.model_id == model_id, RankingRow.state.in_(ENDED))
        .group_by(RankingRow.dataset_id)
    )
    found = sorted(session.scalars(newest), reverse=True)
    return [ident for ident in found if before is None or ident < before][:limit]
