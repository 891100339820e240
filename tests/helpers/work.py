"""Work for executors that does what work can do to its process. `start` is called by name in other processes."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from service.core.settings import Settings
from service.executors.protocol import End, Executor, Outcome, Perform, Watch
from service.jobs.fate import Cause
from service.jobs.model import Task, TaskKind


def task(do: str, /, **payload: Any) -> Task:
    return Task(f"tsk_{do}", "default", TaskKind.EMBED, "rk_1", {"do": do, **payload}, attempts=1, fence=1)


def start(settings: Settings) -> Perform:
    performed = 0

    def perform(task: Task, watch: Watch) -> Outcome:
        nonlocal performed
        performed += 1
        watch.report({"pid": os.getpid(), "performed": performed})
        match task.payload["do"]:
            case "answer":
                return Outcome(End.DONE)
            case "report":
                for number in range(task.payload["times"]):
                    watch.report({"number": number, "pid": os.getpid()})
                return Outcome(End.DONE)
            case "fail":
                return Outcome(End.FAILED, Cause.DOWNLOAD, "the hub does not answer")
            case "wait":
                deadline = time.monotonic() + 60
                while not watch.cancelled():
                    if time.monotonic() > deadline:
                        return Outcome(End.FAILED, Cause.BROKEN, "nobody stopped it")
                    time.sleep(0.01)
                return Outcome(End.STOPPED)
            case "crash":
                ctypes.string_at(0)
            case "exit":
                os._exit(3)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":  # deaf, and holding the interpreter
                ctypes.PyDLL(None).sleep(600)
            case "swell":
                kept = [np.ones(2**22) for _ in range(task.payload["megabytes"] // 32)]
                return Outcome(End.DONE, reason=str(len(kept)))
        raise AssertionError(task.payload["do"])

    return perform


def start_never(settings: Settings) -> Perform:
    raise ModuleNotFoundError("no module named 'torch'")


DEADLY = "deadly"
"""A file of the data directory: a task that names what stands in it dies with its process."""


def start_deadly(settings: Settings) -> Perform:
    """The service's own work, but for tasks of one model or dataset, which crash as native code may."""
    from service.worker.performing import start as start_real

    perform = start_real(settings)
    deadly = (settings.data_dir / DEADLY).read_text()

    def perhaps(task: Task, watch: Watch) -> Outcome:
        models = task.payload.get("models", ())
        splits = task.attempts > 1 and len(models) > 1  # a group that died is not computed again, but dealt out
        if deadly in {task.subject_id, *models} and not splits:
            os.kill(os.getpid(), signal.SIGSEGV)
        return perform(task, watch)

    return perhaps


class Seen:
    """What a task reported."""

    def __init__(self) -> None:
        self.reports: list[Mapping[str, Any]] = []
        self.stop = threading.Event()

    @property
    def watch(self) -> Watch:
        return Watch(report=lambda made: self.reports.append(dict(made)), cancelled=self.stop.is_set)

    @property
    def pid(self) -> int:
        return self._told("pid")

    @property
    def performed(self) -> int:
        return self._told("performed")

    def _told(self, what: str) -> int:
        """First: over Ray, a report may come from the node before the task has said anything."""
        return int(next(report[what] for report in self.reports if what in report))


def ran(executor: Executor, what: Task, /, *, seconds: float = 60.0) -> tuple[Outcome, Seen]:
    seen = Seen()
    return executor.run(what, seen.watch, seconds=seconds), seen


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
