"""What every executor promises the worker: outcomes, progress, an end within a second, and warm state between tasks.

Those that run tasks in other processes promise as well that a task costs nobody but itself.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest

from service.core.settings import Settings
from service.executors.inline import InlineExecutor
from service.executors.local import LocalExecutor
from service.executors.protocol import End, Executor, Outcome
from service.jobs.fate import Cause
from tests.helpers.service import ROOT, wait_until
from tests.helpers.work import Seen, gone, ran, start, start_never, task

QUIET = Settings(log_level="error")


MAKE: Mapping[str, Callable[[], Executor]] = {
    "inline": lambda: InlineExecutor(start(QUIET)),
    "local": lambda: LocalExecutor(start, QUIET),
}


@pytest.fixture(params=MAKE)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = MAKE[request.param]()
    yield made
    made.close()


@pytest.fixture(scope="module")
def apart() -> Iterator[LocalExecutor]:
    """One that runs tasks in a process of their own; its tests leave it as they found it, alive or not."""
    made = LocalExecutor(start, QUIET)
    yield made
    made.close()


def test_it_hands_back_how_a_task_ended_and_what_it_reported(executor: Executor) -> None:
    assert executor.ready()
    outcome, _ = ran(executor, task("answer"))
    assert outcome == Outcome(End.DONE)
    outcome, _ = ran(executor, task("fail"))
    assert outcome == Outcome(End.FAILED, Cause.DOWNLOAD, "the hub does not answer")
    outcome, seen = ran(executor, task("report", times=200))
    assert outcome.end is End.DONE
    assert [made["number"] for made in seen.reports[1:]] == list(range(200))


def test_what_is_loaded_stays_between_tasks(executor: Executor) -> None:
    assert [ran(executor, task("answer"))[1].performed for _ in range(3)] == [1, 2, 3]


def test_a_task_that_is_told_to_stop_stops_within_a_second_and_the_next_is_not_told(executor: Executor) -> None:
    ran(executor, task("answer"))
    seen = Seen()
    threading.Timer(0.3, seen.stop.set).start()
    began = time.monotonic()
    assert executor.run(task("wait"), seen.watch, seconds=60) == Outcome(End.STOPPED)
    assert time.monotonic() - began < 1.3
    assert ran(executor, task("answer"))[1].performed == 3


@pytest.mark.parametrize(
    ("what", "how"), [("crash", "signal SIGSEGV"), ("die", "signal SIGKILL"), ("exit", "status 3")]
)
def test_a_process_that_ends_costs_its_task_alone(apart: LocalExecutor, what: str, how: str) -> None:
    _, before = ran(apart, task("answer"))
    outcome, seen = ran(apart, task(what))
    assert seen.pid == before.pid != os.getpid()
    assert (outcome.end, outcome.cause) == (End.FAILED, Cause.KILLED)
    assert how in outcome.reason
    outcome, after = ran(apart, task("answer"))
    assert outcome == Outcome(End.DONE)
    assert (after.performed, after.pid != before.pid) == (1, True)


def test_a_task_that_hangs_is_ended_at_its_deadline(apart: LocalExecutor) -> None:
    ran(apart, task("answer"))
    began = time.monotonic()
    outcome, seen = ran(apart, task("hang"), seconds=0.5)
    assert (outcome.end, outcome.cause) == (End.FAILED, Cause.OVERDUE)
    assert time.monotonic() - began < 1.5
    assert gone(seen.pid)
    assert ran(apart, task("answer"))[0] == Outcome(End.DONE)


def test_a_task_that_does_not_stop_is_stopped_with_its_process(
    apart: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.executors.local.STOP_SECONDS", 0.3)
    seen = Seen()
    threading.Timer(0.2, seen.stop.set).start()
    assert apart.run(task("hang"), seen.watch, seconds=60) == Outcome(End.STOPPED)
    assert gone(seen.pid)


def test_a_process_that_died_while_it_was_idle_is_not_given_a_task(apart: LocalExecutor) -> None:
    _, before = ran(apart, task("answer"))
    os.kill(before.pid, 9)
    wait_until(lambda: gone(before.pid), seconds=5)
    outcome, after = ran(apart, task("answer"))
    assert outcome == Outcome(End.DONE)
    assert after.pid != before.pid


def test_memory_beyond_the_bound_is_refused_and_the_next_task_begins_afresh() -> None:
    bounded = LocalExecutor(start, QUIET, memory_bytes=600 * 2**20)
    try:
        assert ran(bounded, task("swell", megabytes=96))[0].end is End.DONE
        outcome, seen = ran(bounded, task("swell", megabytes=1600))
        assert (outcome.end, outcome.cause) == (End.FAILED, Cause.TOO_COSTLY)
        outcome, after = ran(bounded, task("swell", megabytes=96))
        assert outcome.end is End.DONE
        assert after.pid != seen.pid
    finally:
        bounded.close()


def test_what_cannot_begin_fails_every_task_and_says_so() -> None:
    never = LocalExecutor(start_never, Settings(log_level="error"))
    try:
        for _ in range(2):
            outcome, _ = ran(never, task("answer"))
            assert (outcome.end, outcome.cause) == (End.FAILED, Cause.UNAVAILABLE)
            assert "ModuleNotFoundError" in outcome.reason
    finally:
        never.close()


def test_closing_ends_the_process() -> None:
    made = LocalExecutor(start, QUIET)
    _, seen = ran(made, task("answer"))
    assert not gone(seen.pid)
    made.close()
    assert gone(seen.pid)


PARENT = """
import sys
from service.core.settings import Settings
from service.executors.local import LocalExecutor
from service.executors.protocol import Watch
from tests.helpers.work import start, task
watch = Watch(report=lambda said: print(said["pid"], flush=True), cancelled=lambda: False)
LocalExecutor(start, Settings(log_level="error")).run(task(sys.argv[1]), watch, seconds=60)
"""


@pytest.mark.parametrize("busy_with", ["wait", "hang"])
def test_the_process_ends_with_its_parent_whatever_it_does(busy_with: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, busy_with], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
    wait_until(lambda: gone(pid), seconds=5, why="the child ends")
