"""Tasks in this very process: for what computes nothing, and for programs that are a process of their own."""

from dataclasses import dataclass

from service.executors.protocol import Outcome, Perform, Watch
from service.jobs.model import Task


@dataclass(frozen=True, slots=True)
class InlineExecutor:
    """No task outlives its time here, for nobody is there to end it: `seconds` is not looked at."""

    perform: Perform
    device: str = "cpu"

    def warm(self) -> None:
        pass

    def ready(self) -> bool:
        return True

    def run(self, task: Task, watch: Watch, /, *, seconds: float) -> Outcome:
        return self.perform(task, watch)

    def close(self) -> None:
        pass
