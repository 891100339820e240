"""Engine, sessions and the base of the tables: SQLite embedded, PostgreSQL in production, one code path."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Engine, MetaData, PoolProxiedConnection, create_engine, event
from sqlalchemy.engine import URL, Connection, Dialect, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.types import TypeDecorator

from service.core.settings import Settings

OVERFLOW = 4  # beside the thread pool: the poller of events, the health check
POOL_WAIT_SECONDS = 10.0
# A server that is gone without a word is noticed within half a minute; what the URL says of these goes first.
_GONE_SILENTLY = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
# Connection lost · transaction rolled back by others · out of room or connections · ended or not yet up · disk.
_PASSING_CLASSES = frozenset({"08", "40", "53", "57", "58"})
_PASSING_STATES = frozenset({"25P03", "55P03"})  # rested too long in a transaction · a lock was not to be had
_PASSING_SQLITE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC; SQLite, which has no zones, stores it without and gets its zone back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a moment without a time zone was given to the database")
        return value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime(), dict[str, Any]: JSON(), list[Any]: JSON()}  # noqa: RUF012


def make_engine(
    url: str | URL, /, *, busy_timeout_ms: int, pool_size: int, statement_timeout_ms: int = 30_000
) -> Engine:
    """An engine whose SQLite connections are WAL, enforce foreign keys and wait for a writer.

    On PostgreSQL no statement runs longer than `statement_timeout_ms`, waiting for locks included, and no transaction
    rests longer between two.
    """
    url = make_url(url)
    if url.get_backend_name() != "sqlite":
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=OVERFLOW,
            pool_timeout=POOL_WAIT_SECONDS,
            pool_pre_ping=True,
            connect_args={name: value for name, value in _GONE_SILENTLY.items() if name not in url.query},
        )

        @event.listens_for(engine, "connect")
        def _limit(connection: Any, _record: object) -> None:
            connection.autocommit = True  # what is set in a transaction goes with its rollback
            for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
                connection.execute(f"SET {setting} = {int(statement_timeout_ms)}")
            connection.autocommit = False

        return engine
    engine = create_engine(url, pool_size=pool_size, max_overflow=OVERFLOW, pool_timeout=POOL_WAIT_SECONDS)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's begin event below opens every transaction
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A deferred transaction that reads and then writes fails at once in WAL, whatever the timeout.
        write = connection.get_execution_options().get("zooscout_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def is_passing(error: BaseException, /) -> bool:
    """Whether the database is away, busy or full for the moment, so that the same request may succeed later."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return (getattr(cause, "sqlite_errorcode", 0) & 0xFF) in _PASSING_SQLITE
    state = getattr(cause, "sqlstate", None)
    if state is None:  # libpq's own: no server, or none any more
        return error.connection_invalidated or type(cause).__name__ in {"OperationalError", "ConnectionTimeout"}
    return state[:2] in _PASSING_CLASSES or state in _PASSING_STATES


class Database:
    """Hands out sessions: `read()` never commits, `write()` commits when its block ends without an error."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._reader = engine.execution_options(zooscout_write=False)
        self._watch: PoolProxiedConnection | None = None
        self._watching = threading.Lock()
        self._asker: Connection | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "Database":
        if settings.database.url is None:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
        return cls(
            make_engine(
                settings.database_url,
                busy_timeout_ms=settings.database.busy_timeout_ms,
                pool_size=settings.database.pool_size,
                statement_timeout_ms=settings.database.statement_timeout_ms,
            )
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        with Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def stamp(self) -> str:
        """Two equal stamps: nothing was committed between them, by any process."""
        if self.is_sqlite:
            return self._data_version()
        with self._watching:
            return self._snapshot()

    def _snapshot(self) -> str:
        """Asked before every remembered answer, so on a connection of its own: none is fetched, tried and put back."""
        # A server that was started anew may have been restored to an earlier time, and count from there again.
        query = "SELECT pg_current_snapshot()::text || ' ' || pg_postmaster_start_time()::text"
        if self._asker is not None:
            try:
                return str(self._asker.exec_driver_sql(query).scalar_one())
            except DBAPIError:  # it may have been lost while nothing was asked
                self._forget_asker()
        asker = self._asker = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        asker.detach()
        try:
            return str(asker.exec_driver_sql(query).scalar_one())
        except DBAPIError:
            self._forget_asker()
            raise

    def _forget_asker(self) -> None:
        if self._asker is not None:
            asker, self._asker = self._asker, None
            asker.invalidate()
            asker.close()

    def _data_version(self) -> str:
        """SQLite counts the commits of all connections but the one that asks, so one is kept that writes nothing."""
        with self._watching:
            if self._watch is None:
                self._watch = self.engine.raw_connection()
                self._watch.detach()
            cursor = self._watch.cursor()
            cursor.execute("PRAGMA data_version")
            row = cursor.fetchone()
            cursor.close()
            return str(row)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def dispose(self) -> None:
        with self._watching:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
            if self._asker is not None:
                self._asker.close()
                self._asker = None
        self.engine.dispose()
