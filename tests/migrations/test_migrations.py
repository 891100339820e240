"""Migrations, on both databases: up, down and up again give the schema that the tables describe."""

import subprocess
import sys

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from service.core.db import Database
from service.core.errors import SchemaOutdated
from service.core.migrate import (
    alembic_config,
    current_revision,
    ensure_schema,
    head_revision,
    known_revisions,
    upgrade,
)
from service.keys.tables import DEFAULT_PROJECT, ProjectRow
from service.schema import all_tables
from tests.helpers.databases import opened
from tests.helpers.service import ROOT


def differences(database: Database) -> list[object]:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, all_tables()))


def test_up_down_and_up_again_equal_the_tables(empty_url: str) -> None:
    with opened(empty_url) as database:
        upgrade(database)
        assert differences(database) == []
        command.downgrade(alembic_config(database), "base")
        assert set(inspect(database.engine).get_table_names()) == {"alembic_version"}
        assert current_revision(database) is None
        upgrade(database)
        assert differences(database) == []
        assert current_revision(database) == head_revision()
        scripts = ScriptDirectory.from_config(alembic_config(database))
        assert known_revisions() == [script.revision for script in scripts.walk_revisions()][::-1]


def test_a_fresh_database_has_the_default_project_with_its_moment_in_utc(database: Database) -> None:
    with database.read() as session:
        project = session.get(ProjectRow, DEFAULT_PROJECT)
    assert project is not None
    assert project.created_at.utcoffset() is not None
    assert project.created_at.utcoffset().total_seconds() == 0


def test_migrating_a_migrated_database_changes_nothing(database: Database) -> None:
    before = current_revision(database)
    ensure_schema(database)
    upgrade(database)
    assert current_revision(database) == before


def test_processes_that_start_at_once_on_an_empty_database(empty_url: str) -> None:
    code = (
        "import sys; from service.core.db import Database, make_engine; from service.core.migrate import ensure_schema;"
        "from service.schema import all_tables; all_tables(); print(1, flush=True); sys.stdin.readline();"
        "ensure_schema(Database(make_engine(sys.argv[1], busy_timeout_ms=15000, pool_size=2)))"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", code, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:  # all have imported what they need before the first may begin
        assert child.stdout is not None
        assert child.stdout.readline() == "1\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        _, said = child.communicate(timeout=120)
        assert child.returncode == 0, said
    with opened(empty_url) as database:
        assert differences(database) == []
        with database.read() as session:
            assert session.query(ProjectRow).count() == 1


def test_an_old_database_is_migrated_on_sqlite_and_refused_on_postgresql(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'older'"))
    if database.is_sqlite:
        with pytest.raises(Exception, match="older"):  # alembic knows no such revision: it does try
            ensure_schema(database)
    else:
        with pytest.raises(SchemaOutdated, match="zooscout db upgrade"):
            ensure_schema(database)
