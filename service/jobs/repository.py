"""The queue in SQL: claim under a lease, renew, finish under the fence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.core.clock import db_epoch, utc_now
from service.core.errors import LeaseLost, NotFound
from service.core.ids import new_id
from service.core.tracing import origin
from service.jobs.model import Counted, Priority, Queue, Task, TaskKind, TaskState, WorkerView
from service.jobs.tables import CounterRow, TaskRow, WorkerRow
from service.keys.tables import ProjectRow

log = structlog.get_logger(__name__)
OPEN_STATES = (TaskState.QUEUED, TaskState.RUNNING)
TAKEN_OVER = -1.0
ALIVE_SECONDS = 30.0  # a worker that was seen within them is taken to be there


def enqueue(
    session: Session,
    /,
    *,
    project_id: str,
    kind: TaskKind,
    subject_id: str,
    payload: Mapping[str, Any],
    priority: int = Priority.INTERACTIVE,
    delay_seconds: float = 0.0,
) -> str:
    row = TaskRow(
        id=new_id("tsk"),
        project_id=project_id,
        kind=kind,
        subject_id=subject_id,
        payload=dict(payload),
        state=TaskState.QUEUED,
        priority=priority,
        not_before=db_epoch() + delay_seconds if delay_seconds else 0.0,
        attempts=0,
        fence=0,
        progress={},
        created_at=utc_now(),
        origin=origin() or None,
    )
    session.add(row)
    log.info("task.queued", task=row.id, kind=kind, subject=subject_id)
    return row.id


def claim(
    session: Session, owner: str, /, *, lease_seconds: float, subjects: Sequence[str] | None = None
) -> Task | None:
    """Takes the most urgent task that is queued or whose lease ran out; None when there is none.

    Of equally urgent tasks, one of the project that has waited longest for a turn goes first.
    """
    for project_id, due in _in_turn(session, subjects):
        candidate = (
            select(TaskRow.id)
            .where(due, TaskRow.project_id == project_id)
            .order_by(TaskRow.priority, TaskRow.created_at, TaskRow.id)
            .limit(1)
        )
        row = session.execute(
            update(TaskRow)
            .where(TaskRow.id == candidate.with_for_update(skip_locked=True).scalar_subquery())
            .values(
                state=TaskState.RUNNING,
                # It means nothing once a task runs: here it says whether this claim took over a lease that ran out.
                not_before=case((TaskRow.state == TaskState.RUNNING, TAKEN_OVER), else_=0.0),
                lease_owner=owner,
                lease_until=db_epoch() + lease_seconds,
                fence=TaskRow.fence + 1,
                attempts=TaskRow.attempts + 1,
            )
            .returning(TaskRow)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()
        if row is not None:
            session.execute(
                update(ProjectRow)
                .where(ProjectRow.id == project_id)
                .values(served_at=db_epoch())
                .execution_options(synchronize_session=False)
            )
            if row.not_before == TAKEN_OVER:
                count(session, Counted.LEASE_LOSSES)
            return Task(
                row.id,
                row.project_id,
                TaskKind(row.kind),
                row.subject_id,
                row.payload,
                row.attempts,
                row.fence,
                row.origin or {},
            )
    return None


def count(session: Session, what: Counted, /, *, label: str = "", by: float = 1.0) -> None:
    insert = sqlite_insert if session.get_bind().dialect.name == "sqlite" else postgresql_insert
    added = insert(CounterRow).values(name=what, label=label, value=by)
    session.execute(
        added.on_conflict_do_update(
            index_elements=[CounterRow.name, CounterRow.label], set_={"value": CounterRow.value + by}
        )
    )


def has_due(session: Session, /, *, subjects: Sequence[str] | None = None) -> bool:
    """Whether `claim` would find something: a read, so that an idle worker takes no write lock."""
    return session.execute(select(TaskRow.id).where(_due(subjects)).limit(1)).first() is not None


def _due(subjects: Sequence[str] | None) -> ColumnElement[bool]:
    return or_(*_ways_to_be_due(subjects))


def _ways_to_be_due(subjects: Sequence[str] | None) -> list[ColumnElement[bool]]:
    """Lost by its worker, or queued. Each alone goes along an index in order; with either, every due task is sorted."""
    ways = [
        and_(TaskRow.state == TaskState.RUNNING, TaskRow.lease_until < db_epoch()),
        and_(TaskRow.state == TaskState.QUEUED, TaskRow.not_before <= db_epoch()),
    ]
    return ways if subjects is None else [and_(due, TaskRow.subject_id.in_(subjects)) for due in ways]


def _in_turn(session: Session, subjects: Sequence[str] | None) -> list[tuple[str, ColumnElement[bool]]]:
    """Projects with what is due in them, in the order in which they are to be served."""
    ways = _ways_to_be_due(subjects)
    found: list[tuple[int, float, str, int]] = []
    for number, due in enumerate(ways):
        most_urgent = (
            select(TaskRow.priority)
            .where(TaskRow.project_id == ProjectRow.id, due)
            .order_by(TaskRow.priority)
            .limit(1)
            .scalar_subquery()
        )
        query = select(most_urgent, ProjectRow.served_at, ProjectRow.id)
        found += [(urgency, at, ident, number) for urgency, at, ident in session.execute(query) if urgency is not None]
    return [(ident, ways[number]) for *_, ident, number in sorted(found)]


def renew(session: Session, task: Task, /, *, lease_seconds: float, progress: Mapping[str, Any] | None) -> bool:
    """Pushes the lease out; False when the task is no longer this claim's (taken over, or cancelled)."""
    values: dict[str, Any] = {"lease_until": db_epoch() + lease_seconds}
    if progress is not None:
        values["progress"] = dict(progress)
    return _update_held(session, task, values) == 1


def record_progress(session: Session, task_id: str, progress: Mapping[str, Any], /) -> None:
    session.execute(update(TaskRow).where(TaskRow.id == task_id).values(progress=dict(progress)))


def hold(session: Session, task: Task, /) -> None:
    """Asserts, inside the transaction that writes a result, that the claim still holds.

    Raises:
        LeaseLost: Another worker has the task, or it was cancelled.
    """
    query = select(TaskRow.fence, TaskRow.state).where(TaskRow.id == task.id).with_for_update()
    row = session.execute(query).one_or_none()
    if row is None or row.fence != task.fence or row.state != TaskState.RUNNING:
        raise LeaseLost(f"Task {task.id} is no longer held by this worker.")


def finish(session: Session, task: Task, /, *, state: TaskState, error: Mapping[str, Any] | None = None) -> None:
    values = {
        "state": state,
        "error": dict(error) if error else None,
        "finished_at": utc_now(),
        "lease_owner": None,
        "lease_until": None,
    }
    if _update_held(session, task, values) != 1:
        raise LeaseLost(f"Task {task.id} is no longer held by this worker.")


def release(session: Session, task: Task, /, *, delay_seconds: float = 0.0, refund: bool = False) -> None:
    """Puts a task back into the queue; `refund` when the attempt does not count (the worker was told to stop)."""
    _update_held(
        session,
        task,
        {
            "state": TaskState.QUEUED,
            "not_before": db_epoch() + delay_seconds,
            "lease_owner": None,
            "lease_until": None,
            "attempts": TaskRow.attempts - (1 if refund else 0),
        },
    )


def cancel_subject(session: Session, subject_id: str, /) -> None:
    session.execute(
        update(TaskRow)
        .where(TaskRow.subject_id == subject_id, TaskRow.state.in_(OPEN_STATES))
        .values(state=TaskState.CANCELLED, finished_at=utc_now(), lease_until=None)
        .execution_options(synchronize_session=False)
    )


def delete_subject(session: Session, subject_id: str, /) -> None:
    for row in session.scalars(select(TaskRow).where(TaskRow.subject_id == subject_id)):
        session.delete(row)


def priority_of(session: Session, task_id: str, /) -> int:
    return session.execute(select(TaskRow.priority).where(TaskRow.id == task_id)).scalar_one()


def exists(session: Session, task_id: str, /) -> bool:
    """False once what the task worked for was removed."""
    return session.get(TaskRow, task_id) is not None


def sources_of(session: Session, subject_id: str, /) -> list[str]:
    """Uploads that the subject's open tasks were still to read and remove."""
    query = select(TaskRow.payload).where(TaskRow.subject_id == subject_id, TaskRow.state.in_(OPEN_STATES))
    return [payload["source"] for payload in session.scalars(query) if payload.get("delete_source")]


def open_sources(session: Session, /) -> set[str]:
    """Everything that an open task of any project still has to read."""
    query = select(TaskRow.payload).where(TaskRow.state.in_(OPEN_STATES))
    return {payload["source"] for payload in session.scalars(query) if "source" in payload}


def count_open(session: Session, subject_id: str, /, *, besides: str | None = None) -> int:
    query = select(func.count()).where(TaskRow.subject_id == subject_id, TaskRow.state.in_(OPEN_STATES))
    if besides is not None:
        query = query.where(TaskRow.id != besides)
    return session.execute(query).scalar_one()


def count_open_of(session: Session, project_id: str, /) -> int:
    """Of the whole project, its own collections left out."""
    query = select(func.count()).where(
        TaskRow.project_id == project_id, TaskRow.state.in_(OPEN_STATES), TaskRow.kind != TaskKind.COLLECT
    )
    return session.execute(query).scalar_one()


def enqueue_collection(
    session: Session, project_id: str, /, *, purge: bool = False, uploads: Sequence[str] = ()
) -> None:
    """Asks a worker to remove the files that no row needs: those past the grace period, with `purge` all.

    `uploads` are files that nobody will read any more, whatever their age.
    """
    query = select(TaskRow.id).where(
        TaskRow.project_id == project_id, TaskRow.kind == TaskKind.COLLECT, TaskRow.state == TaskState.QUEUED
    )
    if purge or uploads or session.execute(query.limit(1)).first() is None:
        enqueue(
            session,
            project_id=project_id,
            kind=TaskKind.COLLECT,
            subject_id=project_id,
            payload={"purge": purge, "uploads": list(uploads)},
            priority=Priority.CONTROL if purge else Priority.BATCH,
        )


@dataclass(frozen=True, slots=True)
class TaskView:
    id: str
    kind: TaskKind
    state: TaskState
    payload: Mapping[str, Any]
    progress: Mapping[str, Any]
    error: Mapping[str, Any] | None


def get_task(session: Session, project_id: str, task_id: str, /, *, kind: TaskKind) -> TaskView:
    row = session.get(TaskRow, task_id)
    if row is None or row.project_id != project_id or row.kind != kind:
        raise NotFound("task", task_id)
    return TaskView(row.id, kind, TaskState(row.state), row.payload, row.progress, row.error)


def task_of(session: Session, project_id: str, subject_id: str, /, *, kind: TaskKind) -> TaskView:
    """Of a subject that is a task's own."""
    query = select(TaskRow).where(
        TaskRow.subject_id == subject_id, TaskRow.project_id == project_id, TaskRow.kind == kind
    )
    row = session.scalars(query).one_or_none()
    if row is None:
        raise NotFound(str(kind), subject_id)
    return TaskView(row.id, kind, TaskState(row.state), row.payload, row.progress, row.error)


def tasks_of(session: Session, subject_id: str, /) -> list[TaskView]:
    rows = session.scalars(select(TaskRow).where(TaskRow.subject_id == subject_id).order_by(TaskRow.created_at))
    return [TaskView(r.id, TaskKind(r.kind), TaskState(r.state), r.payload, r.progress, r.error) for r in rows]


def outdone(session: Session, project_id: str, kind: TaskKind, subject_id: str, /) -> bool:
    """Whether the same was done for another subject of the project since it was last asked for this one."""
    asked = select(func.max(TaskRow.created_at)).where(TaskRow.subject_id == subject_id, TaskRow.kind == kind.value)
    others = select(TaskRow.id).where(
        TaskRow.project_id == project_id,
        TaskRow.kind == kind.value,
        TaskRow.state == TaskState.DONE.value,
        TaskRow.subject_id != subject_id,
        TaskRow.finished_at > asked.scalar_subquery(),
    )
    return session.execute(others.limit(1)).first() is not None


def worker_seen(session: Session, worker_id: str, /, *, device: str) -> None:
    values = {"device": device, "seen_at": db_epoch()}
    done = session.execute(update(WorkerRow).where(WorkerRow.id == worker_id).values(values))
    if isinstance(done, CursorResult) and done.rowcount == 0:
        session.add(WorkerRow(id=worker_id, device=device, started_at=utc_now(), seen_at=db_epoch()))


def worker_gone(session: Session, worker_id: str, /) -> None:
    session.execute(delete(WorkerRow).where(WorkerRow.id == worker_id))


def workers_alive(session: Session, /) -> int:
    query = select(func.count()).where(WorkerRow.seen_at > db_epoch() - ALIVE_SECONDS)
    return session.execute(query).scalar_one()


def workers(session: Session, /) -> list[WorkerView]:
    """Those that were seen lately, the longest at work first."""
    query = select(WorkerRow).where(WorkerRow.seen_at > db_epoch() - ALIVE_SECONDS).order_by(WorkerRow.started_at)
    return [WorkerView(row.id, row.device, row.started_at) for row in session.scalars(query)]


def queue_of(session: Session, project_id: str, /) -> Queue:
    query = (
        select(TaskRow.state, func.count())
        .where(TaskRow.project_id == project_id, TaskRow.state.in_(OPEN_STATES))
        .group_by(TaskRow.state)
    )
    counts = {state: n for state, n in session.execute(query)}
    return Queue(waiting=counts.get(TaskState.QUEUED, 0), running=counts.get(TaskState.RUNNING, 0))


def _update_held(session: Session, task: Task, values: Mapping[str, Any]) -> int:
    result = session.execute(
        update(TaskRow)
        .where(TaskRow.id == task.id, TaskRow.fence == task.fence, TaskRow.state == TaskState.RUNNING)
        .values(dict(values))
        .execution_options(synchronize_session=False)
    )
    return result.rowcount if isinstance(result, CursorResult) else 0
