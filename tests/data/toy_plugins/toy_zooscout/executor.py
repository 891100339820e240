"""An executor: runs one task at a time, here in a thread of the worker's own process."""

import threading
from collections.abc import Sequence

from service.core.settings import Settings
from service.executors.protocol import End, Executor, Outcome, Start, Watch
from service.jobs.fate import Cause
from service.jobs.model import Task


class ToyExecutor:
    device = "toy"

    def __init__(self, settings: Settings, start: Start) -> None:
        self._perform = start(settings)
        self._log = settings.data_dir / "toy-executor.log"

    def warm(self) -> None: ...

    def ready(self) -> bool:
        return True

    def run(self, task: Task, watch: Watch, /, *, seconds: float) -> Outcome:
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(self._perform(task, watch)))
        thread.start()
        thread.join(seconds)
        with self._log.open("a") as log:
            log.write(f"{task.kind}\n")
        return outcomes[0] if outcomes else Outcome(End.FAILED, Cause.OVERDUE, "It took longer than it may.")

    def close(self) -> None: ...


def open_executors(settings: Settings, start: Start) -> Sequence[Executor]:
    return [ToyExecutor(settings, start)]
