"""What is wrong with a database: its revision, its schema, its pages, its references."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import ForeignKeyConstraint, MetaData, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from service.core.db import Database
from service.core.migrate import current_revision, head_revision

_SHOWN = 5
_UNSOUND = """
SELECT 'index ' || c.relname || ' is not valid: REINDEX it' FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace
UNION ALL
SELECT 'constraint ' || conname || ' was never validated' FROM pg_constraint
WHERE NOT convalidated AND connamespace = current_schema()::regnamespace
UNION ALL
SELECT checksum_failures || ' pages failed their checksums, last at ' || checksum_last_failure FROM pg_stat_database
WHERE datname = current_database() AND checksum_failures > 0
"""


def find_problems(database: Database, metadata: MetaData, /) -> list[str]:
    """Empty where nothing was found. At another revision than this code's, the schema is not compared."""
    current, head = current_revision(database), head_revision()
    if current is None:
        return ["The database is empty: run `zooscout db upgrade`."]
    found = []
    if current != head:
        found.append(f"The database is at migration {current}, this code at {head}: run `zooscout db upgrade`.")
    try:
        with database.read() as session:
            if database.is_sqlite:
                found += [f"SQLite: {row[0]}" for row in session.execute(text("PRAGMA quick_check")) if row[0] != "ok"]
            else:
                found += [f"PostgreSQL: {row[0]}" for row in session.execute(text(_UNSOUND))]
            if current == head:
                found += _differences(session, metadata)
                found += _orphans(session, metadata)
    except DatabaseError as error:  # of a page that cannot be read
        found.append(f"The database cannot be read: {error.orig}")
    return found


def _differences(session: Session, metadata: MetaData) -> list[str]:
    context = MigrationContext.configure(session.connection(), opts={"compare_type": True})
    differences = compare_metadata(context, metadata)
    more = [f"and {len(differences) - _SHOWN} differences more"] * (len(differences) > _SHOWN)
    return [f"The schema differs from its migration: {difference}" for difference in differences[:_SHOWN]] + more


def _orphans(session: Session, metadata: MetaData) -> list[str]:
    """Both databases enforce references; rows that were written while they did not are found here."""
    quote = session.connection().dialect.identifier_preparer.quote
    found = []
    for table in metadata.sorted_tables:
        for key in (item for item in table.constraints if isinstance(item, ForeignKeyConstraint)):
            parent = quote(key.referred_table.name)
            pairs = [(quote(element.parent.name), quote(element.column.name)) for element in key.elements]
            held = " AND ".join(f"c.{ours} IS NOT NULL" for ours, _ in pairs)
            same = " AND ".join(f"p.{theirs} = c.{ours}" for ours, theirs in pairs)
            count = session.execute(
                text(
                    f"SELECT count(*) FROM {quote(table.name)} c WHERE {held} "  # noqa: S608
                    f"AND NOT EXISTS (SELECT 1 FROM {parent} p WHERE {same})"
                )
            ).scalar_one()
            if count:
                columns = ", ".join(ours for ours, _ in pairs)
                found.append(
                    f"{count} rows of {table.name} name by {columns} what is not in {key.referred_table.name}."
                )
    return found
