"""Upgrades of databases that hold rows and are in use meanwhile."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.core.db import Database, make_engine
from service.core.errors import SchemaOutdated
from service.core.migrate import alembic_config, current_revision, head_revision, upgrade
from service.core.settings import Settings
from service.schema import all_tables
from tests.helpers.databases import opened
from tests.helpers.service import ROOT, wait_until

DATASET = text(
    "INSERT INTO datasets (id, project_id, name, state, source_digest, created_at)"
    " VALUES (:id, 'default', :id, 'sealed', 'x', CURRENT_TIMESTAMP)"
)
RANKING = text(
    "INSERT INTO rankings (id, project_id, dataset_id, request, estimators, ordered_by, state, created_at)"
    " VALUES (:id, 'default', :dataset, '{}', '[]', 'logme', 'done', CURRENT_TIMESTAMP)"
)
MODEL = text(
    "INSERT INTO models (id, project_id, name, library, architecture, input_size, search_text, state, card, created_at)"
    " VALUES (:id, 'default', :id, 'timm', 'resnet18', 224, '', 'ready', '{}', CURRENT_TIMESTAMP)"
)
ENTRY = text("INSERT INTO ranking_entries (ranking_id, model_id, state) VALUES (:ranking, :model, 'done')")
TAG = text("INSERT INTO model_tags (model_id, key, value) VALUES (:model, 'k', 'v')")
COUNTED = ("datasets", "rankings", "ranking_entries", "models", "model_tags")

# What runs beside the upgrade: statements that both the oldest and the newest schema know.
TRAFFIC = """
import json, pathlib, sys, time
from sqlalchemy import text
from service.core.db import Database, make_engine
url, what, stop = sys.argv[1], sys.argv[2], sys.argv[3]
database = Database(make_engine(url, busy_timeout_ms=15000, pool_size=2))
done, errors, slowest, began = 0, [], 0.0, time.monotonic()
while not pathlib.Path(stop).exists():
    start = time.monotonic()
    try:
        if what == "write":
            with database.write() as session:
                made = f"ds_live_{{done}}"
                session.execute(text({dataset!r}), {{"id": made}})
                session.execute(text({ranking!r}), {{"id": f"rk_live_{{done}}", "dataset": made}})
                session.execute(text("UPDATE datasets SET name = 'renamed' WHERE id = :id"), {{"id": made}})
        else:
            with database.read() as session:
                rows = session.execute(text(
                    "SELECT r.id, d.name FROM rankings r JOIN datasets d ON d.id = r.dataset_id ORDER BY r.id LIMIT 50"
                )).all()
                assert all(name == "renamed" for ident, name in rows if ident.startswith("rk_live_")), rows
        done += 1
    except Exception as error:
        errors.append(repr(error)[:300])
    slowest = max(slowest, time.monotonic() - start)
    if done == 3:
        print("busy", flush=True)
print(json.dumps({{"done": done, "errors": errors, "slowest": slowest}}), flush=True)
"""


@dataclass
class Traffic:
    child: "subprocess.Popen[str]"
    heard: str = ""


@contextmanager
def traffic(url: str, what: str, stop: Path) -> Iterator[Traffic]:
    code = TRAFFIC.format(dataset=DATASET.text, ranking=RANKING.text)
    child = subprocess.Popen(
        [sys.executable, "-c", code, url, what, str(stop)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    try:
        yield Traffic(child)
    finally:
        child.kill()
        child.wait()


def counts(database: Database) -> dict[str, int]:
    with database.read() as session:
        return {table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in COUNTED}  # noqa: S608


def at_first_revision(database: Database) -> None:
    all_tables()
    command.upgrade(alembic_config(database), "0001")
    with database.write() as session:
        for n in range(3):
            session.execute(DATASET, {"id": f"ds_{n}"})
            session.execute(MODEL, {"id": f"md_{n}"})
            session.execute(TAG, {"model": f"md_{n}"})
            session.execute(RANKING, {"id": f"rk_{n}", "dataset": f"ds_{n}"})
            session.execute(ENTRY, {"ranking": f"rk_{n}", "model": f"md_{n}"})


def test_every_row_survives_up_and_down(empty_url: str) -> None:
    with opened(empty_url) as database:
        at_first_revision(database)
        expected = dict.fromkeys(COUNTED, 3)
        upgrade(database)
        assert counts(database) == expected
        command.downgrade(alembic_config(database), "0001")
        assert counts(database) == expected
        upgrade(database)
        assert counts(database) == expected
        with pytest.raises(Exception, match=r"(?i)foreign key"), database.write() as session:
            session.execute(RANKING, {"id": "rk_lost", "dataset": "ds_that_is_not"})


def test_an_upgrade_beside_a_reader_and_a_writer_fails_neither(empty_url: str, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    with opened(empty_url) as database:
        at_first_revision(database)
        with traffic(empty_url, "write", stop) as writer, traffic(empty_url, "read", stop) as reader:
            for busy in (writer, reader):
                assert busy.child.stdout is not None
                assert busy.child.stdout.readline() == "busy\n", busy.child.communicate()
            upgrade(database)
            before = counts(database)["datasets"]
            wait_until(lambda: counts(database)["datasets"] > before + 3, why="the writer goes on on the new schema")
            stop.touch()
            reports = {}
            for name, busy in (("writer", writer), ("reader", reader)):
                said, complained = busy.child.communicate(timeout=60)
                assert busy.child.returncode == 0, complained
                reports[name] = json.loads(said)
        assert current_revision(database) == head_revision()
        for report in reports.values():
            assert report["errors"] == []
            assert report["slowest"] < 15
        assert counts(database)["datasets"] == 3 + reports["writer"]["done"]
        assert counts(database)["rankings"] == 3 + reports["writer"]["done"]


def test_an_upgrade_that_gets_no_lock_says_who_holds_it_and_changes_nothing(empty_url: str) -> None:
    with opened(empty_url) as database:
        at_first_revision(database)
        quick = Database(make_engine(empty_url, busy_timeout_ms=200, pool_size=2))
        with database.engine.connect() as holder:
            holder.execute(text("UPDATE datasets SET name = 'held' WHERE id = 'ds_0'"))
            with pytest.raises(SchemaOutdated, match="zooscout db upgrade") as said:
                upgrade(quick, patience_seconds=1.5)
            if not database.is_sqlite:
                pid = holder.execute(text("SELECT pg_backend_pid()")).scalar_one()
                assert f"process {pid} of PostgreSQL is idle in transaction for 00:00:0" in str(said.value)
            holder.rollback()
        assert current_revision(database) == "0001"
        upgrade(quick)
        assert current_revision(database) == head_revision()
        quick.dispose()


def test_a_statement_has_a_time_on_postgresql_and_the_connection_outlives_it(kind: str, database_url: str) -> None:
    if kind == "sqlite":
        pytest.skip("SQLite has no statement timeout: it waits for a writer for busy_timeout_ms")
    limited = Database(make_engine(database_url, busy_timeout_ms=1, pool_size=1, statement_timeout_ms=100))
    for _ in range(2):  # the second finds the limit on a connection that was rolled back
        with pytest.raises(OperationalError, match="statement timeout"), limited.read() as session:
            session.execute(text("SELECT pg_sleep(5)"))
    with limited.read() as session:
        assert session.execute(text("SELECT 1")).scalar_one() == 1
    limited.dispose()


def test_the_pool_has_a_connection_for_every_thread_that_answers() -> None:
    import anyio

    async def threads() -> float:
        return anyio.to_thread.current_default_thread_limiter().total_tokens

    assert Settings().database.pool_size >= anyio.run(threads)
