"""Prescores in SQL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, func, select, update
from sqlalchemy.orm import Session

from service.core.clock import db_epoch, utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.core.pagination import Cursor, Page
from service.core.text import glob_to_like
from service.datasets.tables import DatasetRow
from service.keys.tables import ProjectRow
from service.models.tables import ModelRow
from service.prescores.tables import PrescoredDatasetRow, PrescorePairRow, PrescoreRow, RecommendationChangeRow
from service.rankings.tables import EntryRow, RankingRow

NEWEST = "-created_at"
PLACE = "place"


def now(session: Session, /) -> float:
    """By the database's clock, in seconds since 1970."""
    return session.execute(select(db_epoch())).scalar_one()


@dataclass(frozen=True, slots=True)
class PairFound:
    pair: PrescorePairRow
    dataset: str
    model: str
    ranking_id: str | None
    entry_state: str | None


def add(session: Session, project_id: str, request: Mapping[str, Any], /, *, scheduled: bool) -> PrescoreRow:
    row = PrescoreRow(
        id=new_id("ps"),
        project_id=project_id,
        request=dict(request),
        scheduled=scheduled,
        state="queued",
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def find(session: Session, project_id: str, ident: str, /, *, lock: bool = False) -> PrescoreRow | None:
    query = select(PrescoreRow).where(PrescoreRow.project_id == project_id, PrescoreRow.id == ident)
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


def get(session: Session, project_id: str, ident: str, /, *, lock: bool = False) -> PrescoreRow:
    row = find(session, project_id, ident, lock=lock)
    if row is None:
        raise NotFound("prescore", ident)
    return row


def list_page(session: Session, project_id: str, /, *, limit: int, cursor: str | None) -> Page[PrescoreRow]:
    query = select(PrescoreRow).where(PrescoreRow.project_id == project_id)
    if cursor is not None:
        query = query.where(PrescoreRow.id < Cursor.decode(cursor, sort=NEWEST).ident)
    rows = list(session.scalars(query.order_by(PrescoreRow.id.desc()).limit(limit + 1)))
    following = Cursor(None, rows[limit - 1].id).encode(sort=NEWEST) if len(rows) > limit else None
    return Page(rows[:limit], following)


def under_way(session: Session, project_id: str, request: Mapping[str, Any], /) -> PrescoreRow | None:
    """One that asks for the same and has not ended."""
    query = select(PrescoreRow).where(
        PrescoreRow.project_id == project_id, PrescoreRow.state.in_(("queued", "running"))
    )
    return next((row for row in session.scalars(query.order_by(PrescoreRow.id)) if row.request == request), None)


def projects_due(session: Session, every: timedelta, /) -> list[str]:
    """Projects whose last scheduled prescore was asked for longer ago, or that have had none."""
    recent = select(PrescoreRow.project_id).where(PrescoreRow.scheduled, PrescoreRow.created_at > utc_now() - every)
    return list(session.scalars(select(ProjectRow.id).where(ProjectRow.id.not_in(recent)).order_by(ProjectRow.id)))


def sealed_datasets(session: Session, project_id: str, glob: str | None, /) -> list[DatasetRow]:
    query = select(DatasetRow).where(DatasetRow.project_id == project_id, DatasetRow.state == "sealed")
    if glob is not None:
        query = query.where(DatasetRow.name.ilike(glob_to_like(glob), escape="\\"))
    return list(session.scalars(query.order_by(DatasetRow.id)))


def newest_prescored_ranking(session: Session, dataset_id: str, /) -> str | None:
    query = (
        select(RankingRow.id)
        .where(RankingRow.dataset_id == dataset_id, RankingRow.prescore_id.is_not(None), RankingRow.state == "done")
        .order_by(RankingRow.id.desc())
        .limit(1)
    )
    return session.scalars(query).first()


def add_dataset(session: Session, prescore_id: str, dataset_id: str, ranking_id: str, before: Sequence[str], /) -> None:
    session.add(
        PrescoredDatasetRow(prescore_id=prescore_id, dataset_id=dataset_id, ranking_id=ranking_id, before=list(before))
    )


def add_pairs(session: Session, rows: Sequence[PrescorePairRow], /) -> None:
    session.add_all(rows)
    session.flush()


def datasets_of(session: Session, prescore_id: str, /) -> list[PrescoredDatasetRow]:
    query = select(PrescoredDatasetRow).where(PrescoredDatasetRow.prescore_id == prescore_id)
    return list(session.scalars(query.order_by(PrescoredDatasetRow.ranking_id)))


def rankings_of(session: Session, prescore_id: str, /) -> dict[str, str]:
    """State of each of its rankings that there still is, by id."""
    query = select(RankingRow.id, RankingRow.state).where(RankingRow.prescore_id == prescore_id)
    return {row.id: row.state for row in session.execute(query)}


def open_pairs(session: Session, prescore_id: str, /, *, dataset_id: str | None = None) -> list[PrescorePairRow]:
    query = select(PrescorePairRow).where(PrescorePairRow.prescore_id == prescore_id, PrescorePairRow.state == "open")
    if dataset_id is not None:
        query = query.where(PrescorePairRow.dataset_id == dataset_id)
    return list(session.scalars(query.order_by(PrescorePairRow.place)))


def skip_pairs(session: Session, prescore_id: str, dataset_id: str, model_ids: Sequence[str], reason: str, /) -> None:
    session.execute(
        update(PrescorePairRow)
        .where(
            PrescorePairRow.prescore_id == prescore_id,
            PrescorePairRow.dataset_id == dataset_id,
            PrescorePairRow.model_id.in_(model_ids),
            PrescorePairRow.state == "open",
        )
        .values(state="skipped", reason=reason)
        .execution_options(synchronize_session=False)
    )


def open_elsewhere(session: Session, prescore_id: str, dataset_id: str, /) -> set[str]:
    """The models whose pair with the dataset another prescore still has to compute."""
    query = (
        select(PrescorePairRow.model_id)
        .join(PrescoreRow, PrescoreRow.id == PrescorePairRow.prescore_id)
        .where(
            PrescorePairRow.dataset_id == dataset_id,
            PrescorePairRow.state == "open",
            PrescorePairRow.prescore_id != prescore_id,
            PrescoreRow.state == "running",
        )
    )
    return set(session.scalars(query))


def failed_before(session: Session, project_id: str, dataset_id: str, /) -> set[str]:
    """The models that a prescore has seen fail on the dataset and that none has seen done since."""
    last = (
        select(PrescorePairRow.model_id, func.max(PrescorePairRow.prescore_id).label("prescore_id"))
        .join(PrescoreRow, PrescoreRow.id == PrescorePairRow.prescore_id)
        .where(
            PrescoreRow.project_id == project_id,
            PrescorePairRow.dataset_id == dataset_id,
            PrescorePairRow.state.in_(("done", "failed")),
        )
        .group_by(PrescorePairRow.model_id)
        .subquery()
    )
    query = select(PrescorePairRow.model_id).join(
        last, and_(last.c.model_id == PrescorePairRow.model_id, last.c.prescore_id == PrescorePairRow.prescore_id)
    )
    return set(
        session.scalars(query.where(PrescorePairRow.dataset_id == dataset_id, PrescorePairRow.state == "failed"))
    )


_STATE = case((PrescorePairRow.state != "open", PrescorePairRow.state), else_=func.coalesce(EntryRow.state, "waiting"))


def counts(session: Session, prescore_ids: Sequence[str], /) -> dict[str, dict[str, int]]:
    """How many pairs of each prescore are in which state; an open pair is as far as its ranking's entry."""
    query = (
        select(PrescorePairRow.prescore_id, _STATE, func.count())
        .outerjoin(
            PrescoredDatasetRow,
            and_(
                PrescoredDatasetRow.prescore_id == PrescorePairRow.prescore_id,
                PrescoredDatasetRow.dataset_id == PrescorePairRow.dataset_id,
            ),
        )
        .outerjoin(
            EntryRow,
            and_(EntryRow.ranking_id == PrescoredDatasetRow.ranking_id, EntryRow.model_id == PrescorePairRow.model_id),
        )
        .where(PrescorePairRow.prescore_id.in_(prescore_ids))
        .group_by(PrescorePairRow.prescore_id, _STATE)
    )
    found: dict[str, dict[str, int]] = {ident: {} for ident in prescore_ids}
    for ident, state, n in session.execute(query):
        found[ident][state] = n
    return found


def images(session: Session, prescore_ids: Sequence[str], /) -> dict[str, int]:
    query = (
        select(PrescorePairRow.prescore_id, func.sum(PrescorePairRow.images))
        .where(PrescorePairRow.prescore_id.in_(prescore_ids), PrescorePairRow.state != "skipped")
        .group_by(PrescorePairRow.prescore_id)
    )
    return {ident: int(n or 0) for ident, n in session.execute(query)}


def pairs_page(
    session: Session, prescore_id: str, /, *, limit: int, cursor: str | None, state: str | None
) -> Page[PairFound]:
    query = (
        select(PrescorePairRow, DatasetRow.name, ModelRow.name, PrescoredDatasetRow.ranking_id, EntryRow.state)
        .join(DatasetRow, DatasetRow.id == PrescorePairRow.dataset_id)
        .join(ModelRow, ModelRow.id == PrescorePairRow.model_id)
        .outerjoin(
            PrescoredDatasetRow,
            and_(
                PrescoredDatasetRow.prescore_id == PrescorePairRow.prescore_id,
                PrescoredDatasetRow.dataset_id == PrescorePairRow.dataset_id,
            ),
        )
        .outerjoin(
            EntryRow,
            and_(EntryRow.ranking_id == PrescoredDatasetRow.ranking_id, EntryRow.model_id == PrescorePairRow.model_id),
        )
        .where(PrescorePairRow.prescore_id == prescore_id)
    )
    if state is not None:
        query = query.where(_STATE.in_((state,)))
    if cursor is not None:
        after = Cursor.decode(cursor, sort=PLACE, key_type=int)
        query = query.where(PrescorePairRow.place > after.key)
    rows = [PairFound(*row) for row in session.execute(query.order_by(PrescorePairRow.place).limit(limit + 1))]
    last = rows[limit - 1].pair.place if len(rows) > limit else None
    following = None if last is None else Cursor(last, prescore_id).encode(sort=PLACE)
    return Page(rows[:limit], following)


def add_change(
    session: Session,
    project_id: str,
    /,
    *,
    dataset_id: str,
    prescore_id: str,
    ranking_id: str,
    before: Sequence[str],
    after: Sequence[str],
) -> RecommendationChangeRow:
    row = RecommendationChangeRow(
        id=new_id("rc"),
        project_id=project_id,
        dataset_id=dataset_id,
        prescore_id=prescore_id,
        ranking_id=ranking_id,
        before=list(before),
        after=list(after),
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def changes_page(
    session: Session,
    project_id: str,
    /,
    *,
    limit: int,
    cursor: str | None,
    dataset_id: str | None,
    prescore_id: str | None,
    since: datetime | None,
) -> Page[RecommendationChangeRow]:
    query = select(RecommendationChangeRow).where(RecommendationChangeRow.project_id == project_id)
    if dataset_id is not None:
        query = query.where(RecommendationChangeRow.dataset_id == dataset_id)
    if prescore_id is not None:
        query = query.where(RecommendationChangeRow.prescore_id == prescore_id)
    if since is not None:
        query = query.where(RecommendationChangeRow.created_at >= since)
    if cursor is not None:
        query = query.where(RecommendationChangeRow.id < Cursor.decode(cursor, sort=NEWEST).ident)
    rows = list(session.scalars(query.order_by(RecommendationChangeRow.id.desc()).limit(limit + 1)))
    following = Cursor(None, rows[limit - 1].id).encode(sort=NEWEST) if len(rows) > limit else None
    return Page(rows[:limit], following)
