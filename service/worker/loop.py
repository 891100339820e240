"""Claims tasks and runs them, one at a time, until told to stop."""

import threading
import uuid
from collections.abc import Callable, Sequence

import structlog

from service.core.errors import Cancelled, LeaseLost, NotFound
from service.jobs import repository as jobs
from service.jobs.model import Task
from service.worker.context import Watch, WorkerContext
from service.worker.handlers import give_up, handle, sweep_if_removed
from service.worker.lease import LeaseKeeper
from service.worker.retry import Verdict, judge

log = structlog.get_logger(__name__)
RESTING_REPORT_SECONDS = 5.0


def run(
    context: WorkerContext,
    stop: threading.Event,
    /,
    *,
    subjects: Sequence[str] | None = None,
    finished: Callable[[], bool] = lambda: False,
) -> None:
    """Works until `stop` is set or `finished()` says so; with `subjects`, only on what belongs to them."""
    rested = RESTING_REPORT_SECONDS
    while not stop.is_set() and not finished():
        task = _claim(context, subjects)
        if task is not None:
            rested = RESTING_REPORT_SECONDS
            _run_task(context, task, stop)
            continue
        if rested >= RESTING_REPORT_SECONDS:
            with context.database.write() as session:
                jobs.worker_seen(session, context.worker_id, device=context.settings.worker.device)
            rested = 0.0
        stop.wait(context.settings.worker.poll_seconds)
        rested += context.settings.worker.poll_seconds


def _claim(context: WorkerContext, subjects: Sequence[str] | None) -> Task | None:
    with context.database.read() as session:
        if not jobs.has_due(session, subjects=subjects):
            return None
    with context.database.write() as session:
        return jobs.claim(
            session, context.worker_id, lease_seconds=context.settings.worker.lease_seconds, subjects=subjects
        )


def _run_task(context: WorkerContext, task: Task, stop: threading.Event) -> None:
    worker = context.settings.worker
    entry = log.bind(task=task.id, kind=task.kind, subject=task.subject_id, attempt=task.attempts)
    if task.attempts > worker.max_attempts:
        entry.error("task.given_up")
        _quietly(lambda: give_up(context, task, f"The work died {worker.max_attempts} times without an answer."))
        return
    keeper = LeaseKeeper(
        context.database,
        task,
        worker_id=context.worker_id,
        device=worker.device,
        lease_seconds=worker.lease_seconds,
    )
    watch = Watch(report=keeper.report, cancelled=lambda: stop.is_set() or keeper.lost.is_set())
    entry.info("task.started")
    try:
        with keeper:
            handle(context, task, watch)
    except LeaseLost:
        entry.warning("task.lease_lost")
        sweep_if_removed(context, task)
    except Cancelled:
        entry.info("task.stopped")
        sweep_if_removed(context, task)
        if not keeper.lost.is_set():
            with context.database.write() as session:
                jobs.release(session, task, refund=True)
    except NotFound:
        # What the task worked for was removed while it ran, and the task with it.
        entry.info("task.subject_removed")
        _quietly(lambda: give_up(context, task, "What it worked for was removed."))
        sweep_if_removed(context, task)
    except Exception as error:
        reference = uuid.uuid4().hex[:12]
        entry.exception("task.failed", reference=reference)
        verdict = judge(error, attempts=task.attempts, max_attempts=worker.max_attempts)
        if verdict is Verdict.RETRY:
            with context.database.write() as session:
                jobs.release(session, task, delay_seconds=2.0 ** min(task.attempts, 6))
        else:
            reason = f"{type(error).__name__} (reference {reference} in the worker's log)"
            _quietly(lambda: give_up(context, task, reason))
        sweep_if_removed(context, task)
    else:
        _last_progress(context, task, keeper)
        entry.info("task.done")


def _last_progress(context: WorkerContext, task: Task, keeper: LeaseKeeper) -> None:
    progress = keeper.last_progress()
    if progress is not None:
        with context.database.write() as session:
            jobs.record_progress(session, task.id, progress)


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except (LeaseLost, NotFound):
        log.info("task.gone")
