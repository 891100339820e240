"""What runs tasks, behind one small protocol. The claim, its lease and what becomes of the task are the worker's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from service.core.settings import Settings
from service.jobs.fate import Cause
from service.jobs.model import Task


class End(StrEnum):
    DONE = "done"
    STOPPED = "stopped"  # it was told to; what it stored stays
    LOST = "lost"  # the claim is another's
    GONE = "gone"  # what it worked for was removed
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended; `cause` and `reason` (fit for users) say why it failed."""

    end: End
    cause: Cause | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """How a task's work reports progress and learns that it should stop."""

    report: Callable[[Mapping[str, Any]], None]
    cancelled: Callable[[], bool]


Perform = Callable[[Task, Watch], Outcome]
Start = Callable[[Settings], Perform]
"""Makes what performs tasks: called once in each process, by name, so that it is a function of a module."""


class Executor(Protocol):
    """Runs one task at a time. A task that takes its process with it is an outcome, never an error here."""

    @property
    def device(self) -> str:
        """Where it computes, as it is shown."""

    def warm(self) -> None:
        """Prepares for the first task. Call it from the thread that calls `run`."""

    def ready(self) -> bool:
        """Whether a task given now would begin soon."""

    def run(self, task: Task, watch: Watch, /, *, seconds: float) -> Outcome:
        """Blocks until the task has ended, was stopped because `watch` says so, or took longer than `seconds`."""

    def close(self) -> None:
        """Ends what it started."""
