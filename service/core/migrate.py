"""Brings a database to the schema of this code. Alembic is loaded only where there is something to migrate."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

import service
from service.core.db import Database
from service.core.errors import SchemaOutdated

if TYPE_CHECKING:
    from alembic.config import Config

PATIENCE_SECONDS = 60.0
# Shorter than PostgreSQL's deadlock_timeout of one second: where a migration and a request wait for each other, it is
# the migration that lets go, before PostgreSQL would end the request.
_LOCK_WAIT = "500ms"
_STATEMENT_TIMEOUT = "1h"
_ADVISORY_LOCK = 7250118
_LOCKED_OUT = frozenset({"55P03", "57014", "40P01"})  # lock_not_available, query_canceled, deadlock_detected
_HOLDERS = """
SELECT DISTINCT a.pid, a.state, a.application_name, date_trunc('second', now() - a.xact_start)::text
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.granted AND a.datname = current_database() AND a.pid <> pg_backend_pid() AND n.nspname = current_schema()
"""


class _Held(Exception):
    """Others hold what a migration needs."""


def _script_location() -> Path:
    package = Path(service.__file__).parent
    packaged = package / "_migrations"
    return packaged if packaged.is_dir() else package.parent / "migrations"


def alembic_config(database: Database) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_script_location()))
    config.attributes["engine"] = database.engine
    return config


def known_revisions() -> list[str]:
    """Oldest first: each file of a migration begins with its revision, a number."""
    return sorted(file.name.partition("_")[0] for file in (_script_location() / "versions").glob("[0-9]*_*.py"))


def head_revision() -> str:
    return known_revisions()[-1]


def current_revision(database: Database) -> str | None:
    with database.read() as session:
        connection = session.connection()
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def upgrade(database: Database, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Brings the database to this code's schema, all migrations in one transaction, beside running services.

    Raises:
        SchemaOutdated: Others held its tables for longer than `patience_seconds`; nothing was changed.
    """
    if current_revision(database) == head_revision():
        return
    from alembic import command
    from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

    config = alembic_config(database)
    tries = Retrying(
        retry=retry_if_exception_type(_Held),
        stop=stop_after_delay(patience_seconds),
        wait=wait_random(0.5, 1.5),
        reraise=True,
    )
    try:
        tries(command.upgrade, config, "head")
    except _Held as held:
        raise SchemaOutdated(
            f"The database was not migrated and is as it was: for {patience_seconds:g} s others held its tables "
            f"({held}{_holders(database)}). End these transactions, or stop the services, "
            "and run `zooscout db upgrade` again."
        ) from held


def _holders(database: Database) -> str:
    if database.is_sqlite:
        return ""
    with database.read() as session:
        rows = session.execute(text(_HOLDERS)).all()
    return "".join(
        f"; process {pid} of PostgreSQL{f' ({name})' if name else ''} is {state} for {age}"
        for pid, state, name, age in rows
    )


@contextmanager
def migration(engine: Engine, tables: Collection[str], /) -> Iterator[Connection]:
    """A transaction in which migrations run, alone among those that use any of these tables."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            with _unlinked(connection):
                yield connection
        else:
            with connection.begin():
                _lock(connection, tables)
                yield connection


def _lock(connection: Connection, tables: Collection[str]) -> None:
    """Takes every lock at once: who takes one after the other meets those who take them in another order."""
    try:
        # A time for the whole statement: lock_timeout is one for each of its tables.
        connection.execute(text(f"SET LOCAL statement_timeout = '{_LOCK_WAIT}'"))
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        present = sorted({*inspect(connection).get_table_names()} & {*tables})
        if present:
            quoted = ", ".join(map(connection.dialect.identifier_preparer.quote, present))
            connection.execute(text(f"LOCK TABLE {quoted} IN ACCESS EXCLUSIVE MODE"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) in _LOCKED_OUT:
            raise _Held(f"no lock within {_LOCK_WAIT}, in several tries") from error
        raise
    connection.execute(text(f"SET LOCAL statement_timeout = '{_STATEMENT_TIMEOUT}'"))
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'"))
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))  # it may compute between statements


@contextmanager
def _unlinked(connection: Connection) -> Iterator[None]:
    """A transaction without foreign keys, which hold again at its end.

    SQLite changes a table by making another and dropping the first, and dropping deletes its rows: where foreign keys
    are enforced, every row that refers to them goes with them.
    """
    driver = connection.connection.driver_connection
    if driver is None:
        raise RuntimeError("the connection was closed before the migration began")
    driver.execute("PRAGMA foreign_keys=OFF")  # has no effect within a transaction
    try:
        try:
            transaction = connection.begin()
        except OperationalError as error:
            raise _Held(str(error.orig)) from error
        with transaction:
            yield
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
            if broken:
                raise RuntimeError(f"a migration left rows that refer to nothing: {broken[:5]}")
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def ensure_schema(database: Database) -> None:
    """Migrates SQLite and an empty PostgreSQL; an old PostgreSQL is its operator's to migrate.

    Raises:
        SchemaOutdated: The database is at another revision than this code.
    """
    current, head = current_revision(database), head_revision()
    if current == head:
        return
    if database.is_sqlite or current is None:
        upgrade(database)
        return
    raise SchemaOutdated(f"The database is at migration {current}, this code at {head}: run `zooscout db upgrade`.")
