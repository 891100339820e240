"""What the queue promises its workers, on both databases: one holder a task, by the database's clock, under a fence."""

import subprocess
import sys
from collections import Counter

import pytest
from sqlalchemy import text, update

from service.core.db import Database
from service.core.errors import LeaseLost, NotFound
from service.jobs import repository as jobs
from service.jobs.model import Priority, Task, TaskKind, TaskState
from service.jobs.tables import TaskRow
from service.keys.repository import project_named
from service.keys.tables import DEFAULT_PROJECT
from tests.helpers.service import ROOT


def enqueue(
    database: Database,
    subject: str = "rk_1",
    *,
    priority: Priority = Priority.INTERACTIVE,
    project: str = DEFAULT_PROJECT,
) -> str:
    with database.write() as session:
        return jobs.enqueue(
            session,
            project_id=project,
            kind=TaskKind.EMBED,
            subject_id=subject,
            payload={"models": ["m"]},
            priority=priority,
        )


def claim(database: Database, owner: str = "w1", *, lease_seconds: float = 60, subjects=None) -> Task | None:
    with database.write() as session:
        return jobs.claim(session, owner, lease_seconds=lease_seconds, subjects=subjects)


def claimed(database: Database, owner: str = "w1") -> Task:
    task = claim(database, owner)
    assert task is not None
    return task


def let_expire(database: Database, task: Task) -> None:
    """As if the holder had been silent for a minute beyond its lease."""
    with database.write() as session:
        session.execute(update(TaskRow).where(TaskRow.id == task.id).values(lease_until=TaskRow.lease_until - 120))


def row(database: Database, ident: str) -> TaskRow:
    with database.read() as session:
        found = session.get(TaskRow, ident)
    assert found is not None
    return found


def finish(database: Database, task: Task) -> None:
    with database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)


def test_a_task_is_claimed_once(database: Database) -> None:
    ident = enqueue(database)
    task = claimed(database)
    assert (task.id, task.attempts, task.fence) == (ident, 1, 1)
    assert task.payload == {"models": ["m"]}
    assert claim(database, "w2") is None
    with database.read() as session:
        assert not jobs.has_due(session)


def test_urgent_tasks_go_first_and_equals_in_their_order(database: Database) -> None:
    batch = enqueue(database, priority=Priority.BATCH)
    first, second = enqueue(database), enqueue(database)
    control = enqueue(database, priority=Priority.CONTROL)
    assert [claimed(database).id for _ in range(4)] == [control, first, second, batch]


def test_a_lost_task_goes_before_its_equals_and_after_what_is_more_urgent(database: Database) -> None:
    lost = enqueue(database)
    let_expire(database, claimed(database, "gone"))
    urgent, equal = enqueue(database, priority=Priority.CONTROL), enqueue(database)
    assert [claimed(database).id for _ in range(3)] == [urgent, lost, equal]


def test_projects_take_turns_and_urgency_goes_before_turns(database: Database) -> None:
    with database.write() as session:
        other = project_named(session, "other").id
    crowd = [enqueue(database, f"rk_{i}") for i in range(6)]
    batch = [enqueue(database, f"rk_late_{i}", priority=Priority.BATCH, project=other) for i in range(2)]
    late = enqueue(database, "rk_x", project=other)
    order = [claimed(database).id for _ in range(8)]
    assert order.index(late) <= 1
    assert [ident for ident in order if ident in crowd] == crowd
    assert order[7] == batch[0]
    with database.write() as session:
        assert jobs.claim(session, "w1", lease_seconds=60, subjects=["rk_late_1"]) is not None


def test_a_worker_may_claim_for_some_subjects_alone(database: Database) -> None:
    enqueue(database, "rk_other")
    mine = enqueue(database, "rk_mine")
    with database.read() as session:
        assert not jobs.has_due(session, subjects=["rk_none"])
        assert jobs.has_due(session, subjects=["rk_mine"])
    assert claim(database, subjects=["rk_none"]) is None
    task = claim(database, subjects=["rk_none", "rk_mine"])
    assert task is not None
    assert task.id == mine


def test_an_expired_lease_passes_to_another_and_the_old_holder_can_write_nothing(database: Database) -> None:
    enqueue(database)
    old = claimed(database, "w1")
    let_expire(database, old)
    new = claimed(database, "w2")
    assert (new.id, new.attempts, new.fence) == (old.id, 2, 2)
    with pytest.raises(LeaseLost), database.write() as session:
        jobs.hold(session, old)
    with pytest.raises(LeaseLost), database.write() as session:
        jobs.finish(session, old, state=TaskState.DONE)
    with database.write() as session:
        assert not jobs.renew(session, old, lease_seconds=60, progress={"stage": "old"})
        jobs.release(session, old)
    after = row(database, new.id)
    assert (after.state, after.lease_owner, after.progress) == ("running", "w2", {})
    with database.write() as session:
        jobs.hold(session, new)
    finish(database, new)
    assert row(database, new.id).state == "done"


def test_a_result_written_beside_a_lost_lease_is_rolled_back(database: Database) -> None:
    other = enqueue(database, "rk_other")
    enqueue(database, priority=Priority.CONTROL)
    old = claimed(database)
    let_expire(database, old)
    claimed(database, "w2")

    def write_result() -> None:
        with database.write() as session:
            jobs.record_progress(session, other, {"written": True})
            jobs.finish(session, old, state=TaskState.DONE)

    with pytest.raises(LeaseLost):
        write_result()
    assert row(database, other).progress == {}


def test_renewal_pushes_the_lease_out_by_the_databases_clock(database: Database) -> None:
    enqueue(database)
    task = claimed(database)
    let_expire(database, task)
    with database.write() as session:
        assert jobs.renew(session, task, lease_seconds=100, progress={"images_embedded": 3})
    now = "(julianday('now') - 2440587.5) * 86400.0" if database.is_sqlite else "extract(epoch from clock_timestamp())"
    with database.read() as session:
        left = session.execute(text(f"SELECT lease_until - {now} FROM tasks")).scalar_one()  # noqa: S608
    assert 90 < float(left) <= 100
    assert row(database, task.id).progress == {"images_embedded": 3}
    assert claim(database, "w2") is None


def test_a_task_put_back_counts_its_attempt_unless_refunded_and_waits_its_delay(database: Database) -> None:
    enqueue(database)
    with database.write() as session:
        jobs.release(session, claimed_in(session))
    assert claimed(database).attempts == 2
    with database.write() as session:
        session.execute(update(TaskRow).values(state="queued"))
    task = claimed(database)
    assert task.attempts == 3
    with database.write() as session:
        jobs.release(session, task, refund=True)
    task = claimed(database)
    assert task.attempts == 3
    with database.write() as session:
        jobs.release(session, task, delay_seconds=60)
    assert claim(database) is None
    with database.write() as session:
        session.execute(update(TaskRow).values(not_before=TaskRow.not_before - 61))
    assert claimed(database).id == task.id


def claimed_in(session) -> Task:
    task = jobs.claim(session, "w1", lease_seconds=60)
    assert task is not None
    return task


def test_cancelling_ends_queued_and_running_tasks_of_the_subject_alone(database: Database) -> None:
    enqueue(database)
    enqueue(database)
    other = enqueue(database, "rk_other")
    running = claimed(database)
    with database.write() as session:
        jobs.cancel_subject(session, "rk_1")
        assert jobs.count_open(session, "rk_1") == 0
        assert jobs.count_open(session, "rk_other") == 1
        assert not jobs.renew(session, running, lease_seconds=60, progress=None)
    with pytest.raises(LeaseLost):
        finish(database, running)
    assert claimed(database).id == other
    assert claim(database) is None


def test_the_last_open_task_knows_that_it_is_the_last(database: Database) -> None:
    first, second = enqueue(database), enqueue(database)
    with database.read() as session:
        assert jobs.count_open(session, "rk_1") == 2
        assert jobs.count_open(session, "rk_1", besides=first) == 1
    finish(database, claimed(database))
    with database.read() as session:
        assert jobs.count_open(session, "rk_1", besides=second) == 0


def test_a_task_is_shown_to_its_own_project_and_under_its_own_kind(database: Database) -> None:
    ident = enqueue(database)
    with database.read() as session:
        assert jobs.get_task(session, DEFAULT_PROJECT, ident, kind=TaskKind.EMBED).id == ident
        for project, kind in (("other", TaskKind.EMBED), (DEFAULT_PROJECT, TaskKind.IMPORT)):
            with pytest.raises(NotFound):
                jobs.get_task(session, project, ident, kind=kind)


def test_a_silent_worker_is_not_counted_as_alive(database: Database) -> None:
    with database.write() as session:
        jobs.worker_seen(session, "w1", device="cpu")
        jobs.worker_seen(session, "w2", device="cpu")
        jobs.worker_seen(session, "w1", device="cuda:0")
    with database.write() as session:
        assert jobs.workers_alive(session) == 2
        session.execute(text("UPDATE workers SET seen_at = seen_at - 31 WHERE id = 'w2'"))
    with database.read() as session:
        assert jobs.workers_alive(session) == 1


CLAIMS = """
import sys
from service.jobs import repository as jobs
from service.jobs.model import TaskState
from service.schema import all_tables
from tests.helpers.databases import open_database
all_tables()
database = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while True:
    with database.write() as session:
        task = jobs.claim(session, sys.argv[2], lease_seconds=60)
    if task is None:
        break
    print(task.id, flush=True)
    with database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)
"""


def test_processes_that_claim_at_once_share_the_tasks_and_take_none_twice(
    database: Database, database_url: str
) -> None:
    wanted = {enqueue(database) for _ in range(60)}
    with Crowd([[CLAIMS, database_url, f"w{n}"] for n in range(3)]) as crowd:
        said = crowd.go()
    taken = [line.split() for line in said]
    assert Counter(ident for lines in taken for ident in lines) == Counter(wanted)


WRITES = """
import sys
from service.core.clock import utc_now
from service.keys.tables import ProjectRow
from service.schema import all_tables
from tests.helpers.databases import open_database
from sqlalchemy import select
all_tables()
database = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for n in range(80):
    with database.write() as session:
        session.scalars(select(ProjectRow)).all()
        session.add(ProjectRow(id=f"{sys.argv[2]}-{n}", name=f"{sys.argv[2]}-{n}", created_at=utc_now()))
print("done")
"""

READS = """
import sys
from service.keys.tables import ProjectRow
from service.schema import all_tables
from tests.helpers.databases import open_database
from sqlalchemy import func, select
all_tables()
database = open_database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
seen = 0
while seen < 161:
    with database.read() as session:
        now = session.execute(select(func.count()).select_from(ProjectRow)).scalar_one()
    if now < seen:
        sys.exit("a committed row vanished")
    seen = now
print("done")
"""


def test_two_writing_processes_beside_a_reader_never_find_the_database_locked(
    database: Database, database_url: str
) -> None:
    with Crowd([[WRITES, database_url, "a"], [WRITES, database_url, "b"], [READS, database_url]]) as crowd:
        assert [said.split() for said in crowd.go()] == [["done"]] * 3


class Crowd:
    """Processes that have loaded everything before any of them begins."""

    def __init__(self, commands: list[list[str]]) -> None:
        self._children = [
            subprocess.Popen(
                [sys.executable, "-c", *command],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.kill()
            child.communicate()

    def go(self) -> list[str]:
        for child in self._children:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n", child.communicate()[1]
        for child in self._children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.communicate(timeout=120) for child in self._children]
        for child, (_, complaint) in zip(self._children, answers, strict=True):
            assert child.returncode == 0, complaint
        return [said for said, _ in answers]
