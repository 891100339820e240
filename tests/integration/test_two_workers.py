"""Workers as processes of their own: they share a ranking, and one that is killed costs no answer."""

import os
import signal
import threading
from pathlib import Path

from sqlalchemy import select

from service.jobs.tables import TaskRow, WorkerRow
from service.worker.loop import run
from tests.helpers.service import Service, process, running, settings_for, wait_until
from tests.helpers.zoo import TinyZoo


def prepared(service: Service, zoo: TinyZoo, copies: int) -> dict[str, object]:
    """A ranking request over several models, each a task of its own, none of them embedded yet."""
    for copy in range(copies):
        for model in zoo.good:
            service.call(
                "POST", "/v1/models", 201, json=model.request(name=f"{model.name}.{copy}", crop_pct=1 - copy / 100)
            )
    service.work()
    dataset = service.sealed()
    return {"dataset": dataset["id"], "models": {"name": "tiny_*"}}


def holders(service: Service) -> dict[str, str]:
    """Who holds each running task of the ranking."""
    with service.database.read() as session:
        rows = session.execute(
            select(TaskRow.id, TaskRow.lease_owner).where(TaskRow.kind == "embed", TaskRow.state == "running")
        )
        return {ident: owner for ident, owner in rows}


def pid_of(worker: str) -> int:
    return int(worker.split(":")[1])


def reporting(service: Service) -> set[int]:
    with service.database.read() as session:
        return {pid_of(ident) for ident in session.scalars(select(WorkerRow.id))}


def test_two_workers_take_tasks_of_one_ranking(each_service: Service, tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    service = each_service
    settings = service.settings.model_copy(
        update={"worker": service.settings.worker.model_copy(update={"models_per_task": 1})}
    )
    request = prepared(service, tiny_zoo, copies=6)
    with (
        process(settings, tmp_path / "a.log", "service.worker") as a,
        process(settings, tmp_path / "b.log", "service.worker") as b,
    ):
        wait_until(lambda: {a.pid, b.pid} <= reporting(service), why="both workers report")
        made = service.call("POST", "/v1/rankings", 202, json=request)
        seen: set[str] = set()

        def ended() -> bool:
            seen.update(holders(service).values())
            return service.call("GET", f"/v1/rankings/{made['id']}")["state"] in {"done", "failed"}

        wait_until(ended, seconds=150, why="the ranking ends")
    done = service.call("GET", f"/v1/rankings/{made['id']}")
    assert done["state"] == "done"
    assert [e["state"] for e in done["entries"]] == ["done"] * 18
    assert [e["rank"] for e in done["entries"]] == list(range(1, 19))
    assert {pid_of(owner) for owner in seen} == {a.pid, b.pid}
    assert len(service.tasks(kind="embed", state="done")) == 18


def test_a_worker_killed_in_a_task_costs_no_answer(tmp_path: Path, tiny_zoo: TinyZoo) -> None:
    settings = settings_for(tmp_path / "data", None, worker={"lease_seconds": 2.0, "batch_size": 1})
    with running(settings) as service:
        request = prepared(service, tiny_zoo, copies=3)
        made = service.call("POST", "/v1/rankings", 202, json=request)
        with process(settings, tmp_path / "first.log", "service.worker") as first:
            wait_until(lambda: holders(service), why="the first worker embeds")
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        held = holders(service)
        assert len(held) == 1
        with process(settings, tmp_path / "second.log", "service.worker") as second:
            wait_until(
                lambda: service.call("GET", f"/v1/rankings/{made['id']}")["state"] in {"done", "failed"}, seconds=150
            )
            second.send_signal(signal.SIGTERM)
            assert second.wait(timeout=30) == 0
        done = service.call("GET", f"/v1/rankings/{made['id']}")
        assert done["state"] == "done"
        assert [e["state"] for e in done["entries"]] == ["done"] * 9
        with service.database.read() as session:
            (taken_over,) = (session.get(TaskRow, ident) for ident in held)
        assert taken_over is not None
        assert (taken_over.state, taken_over.attempts, taken_over.fence) == ("done", 2, 2)
        again = service.ranked(done["dataset"]["id"], {"name": "tiny_*"})
        assert [e["scores"] for e in again["entries"]] == [e["scores"] for e in done["entries"]]
        assert service.tasks(kind="embed", subject_id=again["id"]) == []


def test_a_task_that_kills_every_worker_fails_alone(tmp_path: Path, tiny_zoo: TinyZoo) -> None:
    """A group that died is tried again one model a task; a model that dies alone is failed, its neighbours are not."""
    settings = settings_for(tmp_path / "data", None, worker={"lease_seconds": 20.0, "max_attempts": 2})
    with running(settings) as service:
        request = prepared(service, tiny_zoo, copies=1)
        made = service.call("POST", "/v1/rankings", 202, json=request)
        plan_alone(service, made["id"])
        deadly = service.call("GET", f"/v1/models/{tiny_zoo.good[0].name}.0")["id"]
        died(service, attempts=1)
        split(service)
        with service.database.write() as session:
            for row in session.scalars(select(TaskRow).where(TaskRow.kind == "embed", TaskRow.state == "queued")):
                if row.payload["models"] == [deadly]:
                    row.attempts = 6  # as if it had taken six workers with it
        service.work()
        done = service.call("GET", f"/v1/rankings/{made['id']}")
        assert done["state"] == "done"
        assert {e["model_id"]: e["state"] for e in done["entries"]}[deadly] == "failed"
        assert [e["state"] for e in done["entries"]].count("done") == 2
        failed = next(e for e in done["entries"] if e["model_id"] == deadly)
        assert "died 6 times" in failed["error"]


def plan_alone(service: Service, ranking: str) -> None:
    run(service.worker, threading.Event(), subjects=[ranking], finished=lambda: bool(service.tasks(kind="embed")))


def died(service: Service, *, attempts: int) -> None:
    """As if a worker had claimed the ranking's only task and vanished."""
    with service.database.write() as session:
        (row,) = session.scalars(select(TaskRow).where(TaskRow.kind == "embed"))
        assert len(row.payload["models"]) == 3
        row.state, row.attempts, row.fence = "running", attempts, attempts
        row.lease_owner, row.lease_until = "gone", 1.0


def split(service: Service) -> None:
    run(service.worker, threading.Event(), finished=lambda: len(service.tasks(kind="embed")) == 4)
