"""The other side of `LocalExecutor`: a process that performs the tasks it is sent."""

import os
import queue
import resource
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import structlog

from service.core.observing import observe
from service.core.settings import Settings
from service.core.tracing import flush
from service.executors.lifeline import die_with_parent
from service.executors.protocol import End, Outcome, Perform, Start, Watch
from service.jobs.fate import Cause
from service.jobs.model import Task
from service.plugins import load_plugins
from service.schema import all_tables

THREAD_STACK_BYTES = 2 << 20
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Orders:
    """What a child is told first."""

    start: Start
    settings: Settings
    parent: int
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Stop:
    fence: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Received:
    """What a child says of a task before all else."""


def fence_of(task: Task, /) -> tuple[str, int]:
    return task.id, task.fence


def main(descriptor: int) -> None:
    line = Connection(descriptor)
    orders: Orders = line.recv()
    die_with_parent(orders.parent)
    if orders.memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (orders.memory_bytes, orders.memory_bytes))
        threading.stack_size(THREAD_STACK_BYTES)  # counted whole, used or not
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what a Ctrl-C means
    observe(orders.settings, role="worker")
    load_plugins()
    all_tables()
    _Child(line, orders).work()


class _Child:
    def __init__(self, line: Connection, orders: Orders) -> None:
        self._line, self._orders = line, orders
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._stopped: set[tuple[str, int]] = set()
        self._sending = threading.Lock()

    def work(self) -> None:
        threading.Thread(target=self._listen, name="orders", daemon=True).start()
        perform: Perform | None = None
        while True:
            if perform is None:
                # Before the first task comes, so that what it imports is there by then.
                perform, trouble = self._begin()
            task = self._tasks.get()
            self._send(self._perform(perform, task) if perform is not None else trouble)

    def _begin(self) -> tuple[Perform | None, Outcome]:
        try:
            return self._orders.start(self._orders.settings), Outcome(End.DONE)
        except Exception as error:
            log.exception("executor.start_failed")
            return None, Outcome(End.FAILED, Cause.UNAVAILABLE, f"The worker could not begin: {type(error).__name__}")

    def _perform(self, perform: Perform, task: Task) -> Outcome:
        fence = fence_of(task)
        try:
            return perform(task, Watch(report=self._report, cancelled=lambda: fence in self._stopped))
        except MemoryError:
            return Outcome(End.FAILED, Cause.TOO_COSTLY, "It needs more memory than it is given.")

    def _report(self, progress: Any) -> None:
        self._send(dict(progress))

    def _send(self, message: object) -> None:
        with self._sending:
            self._line.send(message)

    def _listen(self) -> None:
        while True:
            try:
                order = self._line.recv()
            except (EOFError, OSError):
                flush()
                os._exit(0)  # the parent is gone; what the task has stored stays
            if isinstance(order, Stop):
                self._stopped.add(order.fence)
            else:
                self._send(Received())
                self._tasks.put(order)
