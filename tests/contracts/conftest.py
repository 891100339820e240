"""Databases for the contracts of the embedding store: migrated, with a second project."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.core.db import Database
from service.core.migrate import upgrade
from service.keys.tables import ProjectRow
from service.schema import all_tables
from tests.helpers.databases import opened


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    yield from _local(f"sqlite:///{tmp_path / 'store.sqlite'}", migrate=True)


@pytest.fixture
def postgresql_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    yield from _local(request.getfixturevalue("postgres").migrated(), migrate=False)


def _local(url: str, *, migrate: bool) -> Iterator[Database]:
    all_tables()
    with opened(url) as database:
        if migrate:
            upgrade(database)
        with database.write() as session:
            session.add(ProjectRow(id="other", name="other", created_at=datetime.now(UTC)))
        yield database
