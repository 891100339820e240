"""`zooscout worker`: claims tasks, and has an executor run them, one at a time for each device."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.core.db import Database, is_passing
from service.core.migrate import ensure_schema
from service.core.observing import observe
from service.core.settings import Settings
from service.executors.lifeline import watch_pipe
from service.executors.opening import open_executors
from service.executors.protocol import Executor
from service.plugins import load_plugins
from service.schema import all_tables
from service.webhooks.sender import Sender
from service.worker.context import WorkerContext
from service.worker.loop import run_for_ever
from service.worker.performing import start_computing
from service.worker.places import places
from service.worker.schedule import PrescoreSchedule
from service.worker.upkeep import Upkeep

log = structlog.get_logger(__name__)
LOOK_SECONDS = 0.2
STOP_SECONDS = 18.0  # less than who started us waits; a lease that is not put back by then runs out by itself


def main(settings: Settings, /, *, lifeline: int | None = None) -> None:
    """Blocks until SIGINT or SIGTERM; the task at hand is put back and another worker goes on from what it stored.

    With `lifeline`, the reading end of a pipe, it also stops once nobody holds the other end any more.
    """
    observe(settings, role="worker")
    load_plugins()
    all_tables()
    stop = threading.Event()
    _stop_on_signals(stop)
    if lifeline is not None:
        watch_pipe(lifeline, stop.set)
    # This thread looks after signals alone: a handler that sets an event on which its own thread is just beginning to
    # wait would wait for ever itself.
    crew = _Crew(stop)
    crew.start("work", lambda: _work(settings, stop, crew))
    while crew.any_alive() and not stop.is_set():
        crew.join(LOOK_SECONDS)
    crew.join(STOP_SECONDS)
    if crew.any_alive():
        log.warning("worker.stopped_by_force")
        sys.stderr.flush()
        os._exit(1)
    if crew.failure is not None:
        raise crew.failure


def _work(settings: Settings, stop: threading.Event, crew: "_Crew") -> None:
    database = Database.from_settings(settings)
    if not _await_schema(database, stop):
        return
    # Beside the tasks, not one of them: who waits for an event must not wait for an hour of embedding.
    threading.Thread(target=Sender(database, settings.webhooks).run, args=(stop,), name="webhooks", daemon=True).start()
    threading.Thread(target=Upkeep(database, settings.retention).run, args=(stop,), name="upkeep", daemon=True).start()
    schedule = PrescoreSchedule(database, settings.prescore)
    threading.Thread(target=schedule.run, args=(stop,), name="prescores", daemon=True).start()
    for number, executor in enumerate(open_executors(settings, start_computing)):
        # Of many places in a cluster one is enough that can read an upload at once.
        warm = settings.executor.kind == "local" or number == 0
        body = partial(_work_with, executor, settings, database, stop, warm=warm)
        crew.start(f"{executor.device}-{number}", body)


def _work_with(
    executor: Executor, settings: Settings, database: Database, stop: threading.Event, *, warm: bool
) -> None:
    context = WorkerContext.from_settings(settings, database)
    with places(context, executor) as where:
        if warm:
            where.warm()
        log.info("worker.ready", worker=context.worker_id, device=executor.device, data_dir=str(settings.data_dir))
        run_for_ever(context, stop, where)
    log.info("worker.stopped", worker=context.worker_id)


def _await_schema(database: Database, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ensure_schema(database)
        except SQLAlchemyError as error:
            if not is_passing(error):
                raise
            log.warning("worker.database_away", exc_info=True)
            stop.wait(2.0)
        else:
            return True
    return False


class _Crew:
    """Threads of which any that fails stops the others."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._threads: list[threading.Thread] = []
        self.failure: BaseException | None = None

    def start(self, name: str, body: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                body()
            except BaseException as error:
                self.failure = self.failure or error
                self._stop.set()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def any_alive(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float) -> None:
        """Until all have ended or the time is over, whichever comes first."""
        for thread in list(self._threads):
            if thread.is_alive():
                thread.join(seconds)


def _stop_on_signals(stop: threading.Event) -> None:
    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
