"""Where each kind of task is run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import assert_never

from service.executors.inline import InlineExecutor
from service.executors.local import LocalExecutor
from service.executors.protocol import Executor
from service.jobs.model import TaskKind
from service.worker.context import WorkerContext
from service.worker.performing import performer, start


@dataclass(frozen=True, slots=True)
class Places:
    """One worker's executors, of which one is busy at a time.

    Attributes:
        here: What reads and writes rows and files of our own.
        confined: What reads what strangers send, with bounded memory.
        computing: What runs models.
    """

    here: Executor
    confined: Executor
    computing: Executor

    def warm(self) -> None:
        """Call it from the thread that runs the tasks."""
        self.computing.warm()
        self.confined.warm()

    def of(self, kind: TaskKind, /) -> Executor:
        match kind:
            case TaskKind.PLAN | TaskKind.PRESCORE | TaskKind.COLLECT:
                return self.here
            case TaskKind.INGEST:
                return self.confined
            case TaskKind.EMBED | TaskKind.RESOLVE | TaskKind.IMPORT | TaskKind.SCORE:
                return self.computing
            case TaskKind.INSPECT | TaskKind.SIGN | TaskKind.FINETUNE:
                return self.computing
            case _:
                assert_never(kind)


def in_this_process(context: WorkerContext, /) -> Places:
    """For a program that is about to end with its work."""
    inline = InlineExecutor(performer(context))
    return Places(inline, inline, inline)


@contextmanager
def places(context: WorkerContext, computing: Executor, /) -> Iterator[Places]:
    """Around an executor that computes; closes all of them."""
    settings = context.settings
    confined = LocalExecutor(start, settings, memory_bytes=settings.worker.ingest_memory_bytes)
    try:
        yield Places(InlineExecutor(performer(context)), confined, computing)
    finally:
        confined.close()
        computing.close()
