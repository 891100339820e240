"""The executors' contract over a Ray cluster: what a task may cost, and what stays for the next one.

Its own where Ray differs: of what a task reports the newest is heard, and how its process ended is not told.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.core.settings import ExecutorSettings, Settings
from service.executors.protocol import End, Executor, Outcome
from service.executors.ray import ray_executors
from service.jobs.fate import Cause
from tests.helpers.ray_cluster import one_node
from tests.helpers.service import wait_until
from tests.helpers.work import Seen, gone, ran, start, start_never, task


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    import ray

    folder: Path = tmp_path_factory.mktemp("ray")
    with one_node(folder / "cluster.log") as cluster:
        chosen = ExecutorSettings(kind="ray", address=cluster.address, max_tasks=2)
        yield Settings(log_level="error", data_dir=folder, executor=chosen)
        ray.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def executor(settings: Settings) -> Iterator[Executor]:
    made = ray_executors(settings, start)
    yield made[0]
    for one in made:
        one.close()


def test_it_hands_back_how_a_task_ended_and_the_newest_it_reported(executor: Executor) -> None:
    assert executor.ready()
    assert ran(executor, task("answer"))[0] == Outcome(End.DONE)
    outcome, _ = ran(executor, task("fail"))
    assert outcome == Outcome(End.FAILED, Cause.DOWNLOAD, "the hub does not answer")
    outcome, seen = ran(executor, task("report", times=200))
    assert outcome.end is End.DONE
    assert seen.reports[-1]["number"] == 199


def test_as_many_are_ready_as_fit_and_one_that_waits_for_the_autoscaler(settings: Settings) -> None:
    chosen = settings.executor.model_copy(update={"max_tasks": 4})
    made = ray_executors(settings.model_copy(update={"executor": chosen}), start)
    assert [one.ready() for one in made] == [True, True, False, False]


def test_what_is_loaded_stays_between_tasks(executor: Executor) -> None:
    first = ran(executor, task("answer"))[1]
    again = [ran(executor, task("answer"))[1] for _ in range(2)]
    assert [seen.pid for seen in again] == [first.pid] * 2
    assert [seen.performed for seen in again] == [first.performed + 1, first.performed + 2]


def test_a_task_that_is_told_to_stop_stops_and_the_next_is_not_told(executor: Executor) -> None:
    _, before = ran(executor, task("answer"))
    seen = Seen()
    threading.Timer(0.3, seen.stop.set).start()
    assert executor.run(task("wait"), seen.watch, seconds=60) == Outcome(End.STOPPED)
    outcome, after = ran(executor, task("answer"))
    assert (outcome, after.pid) == (Outcome(End.DONE), before.pid)


@pytest.mark.parametrize("what", ["crash", "die", "exit"])
def test_a_process_that_ends_costs_its_task_alone(executor: Executor, what: str) -> None:
    _, before = ran(executor, task("answer"))
    outcome, _ = ran(executor, task(what))
    assert (outcome.end, outcome.cause) == (End.FAILED, Cause.KILLED)
    outcome, after = ran(executor, task("answer"))
    assert outcome == Outcome(End.DONE)
    assert (after.performed, after.pid not in {before.pid, os.getpid()}) == (1, True)


def test_a_task_that_hangs_is_ended_at_its_deadline_and_its_process_with_it(executor: Executor) -> None:
    _, before = ran(executor, task("answer"))
    outcome, _ = ran(executor, task("hang"), seconds=0.5)
    assert (outcome.end, outcome.cause) == (End.FAILED, Cause.OVERDUE)
    wait_until(lambda: gone(before.pid), seconds=30, why="Ray ends the process that hangs")
    assert ran(executor, task("answer"))[0] == Outcome(End.DONE)


def test_what_cannot_begin_fails_every_task_and_says_so(settings: Settings) -> None:
    never = ray_executors(settings, start_never)[0]
    for _ in range(2):
        outcome, _ = ran(never, task("answer"))
        assert (outcome.end, outcome.cause) == (End.FAILED, Cause.UNAVAILABLE)
        assert "ModuleNotFoundError" in outcome.reason
