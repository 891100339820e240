"""A process of its own for the work of a device: what a task does to its process costs the task alone."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection

import structlog

from service.core.settings import Settings
from service.executors.child import Orders, Received, Stop, fence_of
from service.executors.protocol import End, Outcome, Start, Watch
from service.jobs.fate import Cause
from service.jobs.model import Task

log = structlog.get_logger(__name__)
LOOK_SECONDS = 0.05
STOP_SECONDS = 5.0  # a task that does not stop within it is stopped with its process
CLOSE_SECONDS = 2.0
_MAIN = "import sys; sys.path[:] = sys.argv[2:]; from service.executors.child import main; main(int(sys.argv[1]))"


class LocalExecutor:
    """Keeps one process between tasks, so that what is loaded stays; the task after a crash gets a fresh one."""

    def __init__(
        self, start: Start, settings: Settings, /, *, device: str = "cpu", memory_bytes: int | None = None
    ) -> None:
        self.device = device
        self._start = start
        self._settings = settings
        self._memory_bytes = memory_bytes
        self._living: tuple[subprocess.Popen[bytes], Connection] | None = None

    def warm(self) -> None:
        """Starts the process, which ends with the thread that starts it at the latest."""
        self._process()

    def ready(self) -> bool:
        return True

    def run(self, task: Task, watch: Watch, /, *, seconds: float) -> Outcome:
        process, line = self._process()
        if not self._hand_over(line, task):  # it died while it was idle
            self._discard()
            process, line = self._process()
            self._hand_over(line, task)
        outcome = self._follow(line, task, watch, time.monotonic() + seconds)
        if outcome is None:
            return self._died(process)
        if outcome.cause in {Cause.TOO_COSTLY, Cause.OVERDUE, Cause.KILLED}:
            self._discard()
        return outcome

    def close(self) -> None:
        if self._living is None:
            return
        self._discard(patience=CLOSE_SECONDS)  # an idle one ends by itself

    @staticmethod
    def _hand_over(line: Connection, task: Task) -> bool:
        """Whether the process lives. One that is about to end still takes what it is sent, and never says so."""
        try:
            line.send(task)
            return not line.poll(LOOK_SECONDS) or isinstance(line.recv(), Received)
        except (EOFError, OSError):
            return False

    def _follow(self, line: Connection, task: Task, watch: Watch, deadline: float) -> Outcome | None:
        """The outcome, or None where the process ended without one."""
        stop_by: float | None = None
        try:
            while True:
                if line.poll(LOOK_SECONDS):
                    said = line.recv()
                    if isinstance(said, Outcome):
                        return said
                    if isinstance(said, Mapping):
                        watch.report(said)
                now = time.monotonic()
                if stop_by is None and watch.cancelled():
                    line.send(Stop(fence_of(task)))
                    stop_by = now + STOP_SECONDS
                if stop_by is not None and now > stop_by:
                    log.warning("executor.killed", task=task.id, why="it did not stop when it was told to")
                    self._discard()
                    return Outcome(End.STOPPED)
                if now > deadline:
                    log.warning("executor.killed", task=task.id, why="it took longer than it may")
                    return Outcome(End.FAILED, Cause.OVERDUE, "It took longer than it may, and was ended.")
        except (EOFError, OSError):
            return None

    def _process(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._living is not None and self._living[0].poll() is not None:
            self._discard()
        if self._living is None:
            self._living = self._spawn()
        return self._living

    def _spawn(self) -> tuple[subprocess.Popen[bytes], Connection]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-X", "faulthandler", "-c", _MAIN, str(theirs.fileno()), *sys.path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        line = Connection(ours.detach())
        line.send(Orders(self._start, self._settings, os.getpid(), self._memory_bytes))
        return process, line

    def _died(self, process: subprocess.Popen[bytes]) -> Outcome:
        # Its end of the line may be closed a moment before it is gone: its own status tells more than our signal.
        self._discard(patience=CLOSE_SECONDS)
        code = process.returncode
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return Outcome(End.FAILED, Cause.KILLED, f"The process that worked on it ended {how}.")

    def _discard(self, *, patience: float = 0.0) -> None:
        if self._living is None:
            return
        process, line = self._living
        self._living = None
        line.close()
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
