"""What kept answers rely on: between two equal stamps nothing was committed, by any connection."""

import asyncio

from sqlalchemy import event, text

from service.api.remembered import Stamps
from service.core.clock import utc_now
from service.core.db import Database
from service.keys.tables import ProjectRow
from tests.helpers.databases import PostgresServer, opened


def test_every_commit_changes_the_stamp_and_reading_does_not(database: Database, database_url: str) -> None:
    def add(to: Database, name: str) -> None:
        with to.write() as session:
            session.add(ProjectRow(id=name, name=name, created_at=utc_now()))

    first = database.stamp()
    with database.read() as session:
        session.get(ProjectRow, "nobody")
    assert database.stamp() == first
    add(database, "ours")
    second = database.stamp()
    assert second != first
    with opened(database_url) as other:
        add(other, "theirs")
    assert database.stamp() not in {first, second}


def test_who_asks_at_once_shares_a_question_but_none_from_before_they_came(database: Database) -> None:
    asked: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute")
    def _count(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "pg_current_snapshot" in statement:
            asked.append(statement)

    def commit(name: str) -> None:
        with database.write() as session:
            session.add(ProjectRow(id=name, name=name, created_at=utc_now()))

    async def ask_at_once() -> None:
        stamps = Stamps(database)
        before = await asyncio.gather(*(stamps.get() for _ in range(20)))
        assert len(set(before)) == 1
        early = asyncio.gather(*(stamps.get() for _ in range(20)))
        await asyncio.sleep(0)
        commit("meanwhile")
        late = await asyncio.gather(*(stamps.get() for _ in range(20)))
        assert set(late).isdisjoint(before)
        await early

    asyncio.run(ask_at_once())
    assert len(asked) <= 3


def test_a_lost_connection_is_opened_anew(postgres: PostgresServer) -> None:
    with opened(postgres.migrated()) as database:
        first = database.stamp()
        with database.engine.connect() as killer:
            killer.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        assert database.stamp() == first
