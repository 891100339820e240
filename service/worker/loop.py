"""Claims tasks, has them run one at a time, and decides what becomes of each, until told to stop."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.core.errors import LeaseLost, NotFound
from service.core.tracing import origin, span
from service.executors.protocol import End, Outcome, Watch
from service.jobs import repository as jobs
from service.jobs.fate import PATIENCE, Cause, decide
from service.jobs.model import Task
from service.worker.context import WorkerContext
from service.worker.deadlines import seconds_for
from service.worker.handlers import give_up, models_in, sweep_if_removed
from service.worker.lease import LeaseKeeper
from service.worker.places import Places, in_this_process

log = structlog.get_logger(__name__)
RESTING_REPORT_SECONDS = 5.0
DATABASE_AWAY_SECONDS = 1.0


def run(
    context: WorkerContext,
    stop: threading.Event,
    /,
    *,
    places: Places | None = None,
    subjects: Sequence[str] | None = None,
    finished: Callable[[], bool] = lambda: False,
) -> None:
    """Works until `stop` is set or `finished()` says so; with `subjects`, only on what belongs to them.

    Without `places` everything is run in this process.
    """
    places = places or in_this_process(context)
    rested = RESTING_REPORT_SECONDS
    try:
        while not stop.is_set() and not finished():
            if not places.computing.ready():
                stop.wait(context.settings.worker.poll_seconds)
                continue
            task = _claim(context, subjects)
            if task is not None:
                rested = RESTING_REPORT_SECONDS
                with (
                    structlog.contextvars.bound_contextvars(**task.names),
                    span(f"task {task.kind}", origin=task.origin, task=task.id, subject=task.subject_id),
                ):
                    _run_task(context, places, replace(task, origin={**task.origin, **origin()}), stop)
                continue
            if rested >= RESTING_REPORT_SECONDS:
                with context.database.write() as session:
                    jobs.worker_seen(session, context.worker_id, device=places.computing.device)
                rested = 0.0
            stop.wait(context.settings.worker.poll_seconds)
            rested += context.settings.worker.poll_seconds
    finally:
        _say_goodbye(context)


def run_for_ever(context: WorkerContext, stop: threading.Event, places: Places, /) -> None:
    """Works until `stop` is set; a database that goes away is waited for."""
    while not stop.is_set():
        try:
            run(context, stop, places=places)
        except SQLAlchemyError:  # a task at hand is lost with its lease, and taken up again
            log.exception("worker.database_away")
            stop.wait(DATABASE_AWAY_SECONDS)


def _say_goodbye(context: WorkerContext) -> None:
    """So that one that is not seen any more and has not said this is known to have died."""
    with suppress(SQLAlchemyError), context.database.write() as session:
        jobs.worker_gone(session, context.worker_id)


def _claim(context: WorkerContext, subjects: Sequence[str] | None) -> Task | None:
    with context.database.read() as session:
        if not jobs.has_due(session, subjects=subjects):
            return None
    with context.database.write() as session:
        return jobs.claim(
            session, context.worker_id, lease_seconds=context.settings.worker.lease_seconds, subjects=subjects
        )


def _run_task(context: WorkerContext, places: Places, task: Task, stop: threading.Event) -> None:
    worker = context.settings.worker
    entry = log.bind(attempt=task.attempts)
    claims = PATIENCE * worker.max_attempts
    if task.attempts > claims:  # whole workers went: the fate of what failed in their care is decided below
        entry.error("task.given_up")
        _quietly(lambda: give_up(context, task, f"The work died {claims} times without an answer.", cause=None))
        return
    executor = places.of(task.kind)
    keeper = LeaseKeeper(
        context.database,
        task,
        worker_id=context.worker_id,
        device=places.computing.device,
        lease_seconds=worker.lease_seconds,
    )
    watch = Watch(report=keeper.report, cancelled=lambda: stop.is_set() or keeper.lost.is_set())
    entry.info("task.started")
    with keeper:
        outcome = executor.run(task, watch, seconds=seconds_for(context, task, executor.device))
    entry.info(f"task.{outcome.end}", cause=outcome.cause, reason=outcome.reason)
    _settle(context, task, outcome, keeper)


def _settle(context: WorkerContext, task: Task, outcome: Outcome, keeper: LeaseKeeper) -> None:
    match outcome.end:
        case End.DONE:
            _last_progress(context, task, keeper)
            return
        case End.LOST:
            pass
        case End.STOPPED:
            if not keeper.lost.is_set():
                with context.database.write() as session:
                    jobs.release(session, task, refund=True)
        case End.GONE:
            _quietly(lambda: give_up(context, task, "What it worked for was removed.", cause=None))
        case End.FAILED:
            _failed(context, task, outcome)
    sweep_if_removed(context, task)


def _failed(context: WorkerContext, task: Task, outcome: Outcome) -> None:
    fate = decide(
        outcome.cause or Cause.BROKEN,
        attempts=task.attempts,
        max_attempts=context.settings.worker.max_attempts,
        alone=models_in(task) <= 1,
    )
    if fate.after_seconds is None:
        _quietly(lambda: give_up(context, task, outcome.reason, cause=outcome.cause if fate.blamed else None))
        return
    with context.database.write() as session:
        jobs.release(session, task, delay_seconds=fate.after_seconds)


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
