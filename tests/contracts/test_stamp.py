"""What kept answers rely on: between two equal stamps nothing was committed, by any connection."""

from service.core.clock import utc_now
from service.core.db import Database
from service.keys.tables import ProjectRow
from tests.helpers.databases import opened


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
