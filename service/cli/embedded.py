"""The service without a server: the same database, files and tasks, worked on by this process."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from service.core.db import Database
from service.core.logging import configure_logging
from service.core.migrate import ensure_schema
from service.core.settings import Settings
from service.executors.opening import open_one
from service.keys.tables import DEFAULT_PROJECT
from service.plugins import load_plugins
from service.schema import all_tables
from service.worker.context import WorkerContext
from service.worker.loop import run
from service.worker.performing import start_computing
from service.worker.places import places

PROJECT = DEFAULT_PROJECT


@contextmanager
def embedded(*, quiet: bool = True) -> Iterator[WorkerContext]:
    settings = Settings()
    configure_logging(level="error" if quiet else settings.log_level, fmt=settings.log_format)
    load_plugins()
    all_tables()
    database = Database.from_settings(settings)
    try:
        ensure_schema(database)
        yield WorkerContext.from_settings(settings, database)
    finally:
        database.dispose()


def work_until(
    context: WorkerContext, subjects: Sequence[str], ended: Callable[[], bool], watch: Callable[[], None], /
) -> None:
    """Works on the subjects' tasks in a thread, calling `watch` meanwhile, until `ended()`.

    On Ctrl-C or SIGTERM the task at hand is put back, so that the next run (or a worker) goes on from what is stored.
    A second one does not wait for that.
    """
    stop = threading.Event()
    interrupted = threading.Event()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            with places(context, open_one(context.settings, start_computing)) as where:
                run(context, stop, places=where, subjects=subjects, finished=ended)
        except BaseException as error:
            failure.append(error)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        # No exception the first time: one that is raised inside `join` loses the thread before its task is put back.
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    thread = threading.Thread(target=work, name="work", daemon=True)
    thread.start()
    try:
        while thread.is_alive() and not interrupted.is_set():
            watch()
            thread.join(timeout=0.1)
        stop.set()
        thread.join()
        watch()
    except Exception:
        stop.set()
        thread.join()
        raise
    finally:
        stop.set()
        for number, handler in before.items():
            signal.signal(number, handler)
    if failure:
        raise failure[0]
    if interrupted.is_set():
        raise KeyboardInterrupt
