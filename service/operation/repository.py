"""What an operator asks of the whole service, over all projects."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.core.clock import db_epoch, utc_now
from service.datasets.tables import DatasetRow
from service.embeddings.tables import ExtractorRow, SegmentRow
from service.jobs.model import TaskState
from service.jobs.repository import ALIVE_SECONDS
from service.jobs.tables import CounterRow, ScheduleRow, TaskRow, WorkerRow
from service.models.tables import ModelRow

REMEMBERED_SECONDS = 24 * 3600.0  # a worker that was seen within them and is gone has not said that it would go


@dataclass(frozen=True, slots=True)
class Waiting:
    """Tasks that are due and that no worker has."""

    tasks: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class LostWorker:
    id: str
    seconds_ago: float


def database_time(session: Session, /) -> float:
    return session.execute(select(db_epoch())).scalar_one()


def waiting(session: Session, /) -> Waiting:
    query = select(func.count(), func.min(TaskRow.created_at)).where(
        TaskRow.state == TaskState.QUEUED, TaskRow.not_before <= db_epoch()
    )
    count, oldest = session.execute(query).one()
    return Waiting(count, max(0.0, (utc_now() - oldest).total_seconds()) if count else 0.0)


def tasks_by_kind_and_state(session: Session, /) -> dict[tuple[str, str], int]:
    query = select(TaskRow.kind, TaskRow.state, func.count()).group_by(TaskRow.kind, TaskRow.state)
    return {(kind, state): count for kind, state, count in session.execute(query)}


def lost_workers(session: Session, /) -> list[LostWorker]:
    """Those that went without a word, the latest first."""
    ago = (db_epoch() - WorkerRow.seen_at).label("ago")
    query = (
        select(WorkerRow.id, ago)
        .where(WorkerRow.seen_at <= db_epoch() - ALIVE_SECONDS, WorkerRow.seen_at > db_epoch() - REMEMBERED_SECONDS)
        .order_by(ago)
    )
    return [LostWorker(row.id, row.ago) for row in session.execute(query)]


def seen_on(session: Session, host: str, /) -> bool:
    query = select(WorkerRow.id).where(
        WorkerRow.id.startswith(f"{host}:", autoescape=True), WorkerRow.seen_at > db_epoch() - ALIVE_SECONDS
    )
    return session.execute(query.limit(1)).first() is not None


def forget_workers(session: Session, /) -> None:
    """Those of which nobody will ask any more."""
    session.execute(
        delete(WorkerRow)
        .where(WorkerRow.seen_at <= db_epoch() - REMEMBERED_SECONDS)
        .execution_options(synchronize_session=False)
    )


def file_weights(session: Session, /) -> list[tuple[str, str]]:
    """Name and address of every model whose weights are a file of this machine."""
    address = ModelRow.card["weights"]["uri"].as_string()
    query = select(ModelRow.name, address).where(address.like("file:%")).order_by(ModelRow.name)
    return [(name, uri) for name, uri in session.execute(query)]


def segment_bytes(session: Session, /) -> dict[str, int]:
    """By state."""
    query = select(SegmentRow.state, func.sum(SegmentRow.bytes)).group_by(SegmentRow.state)
    return {state: int(total) for state, total in session.execute(query)}


def upload_bytes(session: Session, /) -> int:
    """What the uploads had of which the datasets' images came."""
    return int(session.execute(select(func.coalesce(func.sum(DatasetRow.source_bytes), 0))).scalar_one())


@dataclass(frozen=True, slots=True)
class Rate:
    model: str
    device: str
    precision: str
    images_per_second: float


def rates(session: Session, project_id: str, /, *, limit: int) -> list[Rate]:
    """Of the extractors that were made last, and that a model of the project still is."""
    newest = (
        select(ExtractorRow)
        .where(ExtractorRow.project_id == project_id, ExtractorRow.images_per_second.is_not(None))
        .order_by(ExtractorRow.created_at.desc(), ExtractorRow.id)
        .limit(limit)
    )
    found = {row.id: row for row in session.scalars(newest)}
    wanted = [row.identity.get("weights_sha256") for row in found.values()]
    query = select(ModelRow.weights_sha256, ModelRow.architecture, ModelRow.name).where(
        ModelRow.project_id == project_id, ModelRow.weights_sha256.in_(wanted)
    )
    names: dict[tuple[str | None, str], str] = {}
    # Sorted here: asked for an order, SQLite reads all of the project's models by name.
    for sha256, architecture, name in sorted(session.execute(query), key=lambda row: row.name, reverse=True):
        names[sha256, architecture] = name
    made: dict[tuple[str, str, str], Rate] = {}
    for row in found.values():
        identity = row.identity
        name_ = names.get((identity.get("weights_sha256"), str(identity.get("architecture"))))
        if name_ is not None and row.images_per_second is not None:
            rate = Rate(name_, row.device or "unknown", str(identity.get("precision")), row.images_per_second)
            made.setdefault((rate.model, rate.device, rate.precision), rate)
    return list(made.values())


def counters(session: Session, /) -> dict[tuple[str, str], float]:
    return {(row.name, row.label): row.value for row in session.scalars(select(CounterRow))}


def take_turn(session: Session, name: str, /, *, every_seconds: float) -> bool:
    """Whether it is due now, and this caller's to do; then it is due again after `every_seconds`.

    The first time it is due at once.
    """
    due = update(ScheduleRow).where(ScheduleRow.name == name, ScheduleRow.due_at <= db_epoch())
    taken = session.execute(due.values(due_at=db_epoch() + every_seconds).execution_options(synchronize_session=False))
    if isinstance(taken, CursorResult) and taken.rowcount == 1:
        return True
    if session.get(ScheduleRow, name) is None:
        session.add(ScheduleRow(name=name, due_at=database_time(session) + every_seconds))
        session.flush()
        return True
    return False


def forget_tasks(session: Session, kinds: Sequence[str], /, *, until: datetime) -> None:
    """Ended tasks of these kinds that ended before."""
    ended = or_(*(TaskRow.state == state for state in (TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED)))
    session.execute(
        delete(TaskRow)
        .where(TaskRow.kind.in_(kinds), ended, TaskRow.finished_at < until)
        .execution_options(synchronize_session=False)
    )
