"""Backups of the database: consistent while the service runs. The files beside it are immutable and copied after it."""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.engine import URL

from service.core.db import Database
from service.core.errors import Conflict, InvalidRequest
from service.core.migrate import current_revision, known_revisions

REVISIONS = "alembic_version"
_LOCK_WAIT = "10s"


def back_up(database: Database, target: Path, /, *, overwrite: bool) -> None:
    """Writes the whole database to one file, which appears under its name once it is complete.

    Raises:
        Conflict: The file is there already.
        InvalidRequest: The file cannot be written, or PostgreSQL's programs are not there or refuse.
    """
    if target.exists() and not overwrite:
        raise Conflict(f"'{target}' exists: name another file, or overwrite it with --force.")
    if not target.parent.is_dir():
        raise InvalidRequest(f"There is no folder '{target.parent}'.")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if database.is_sqlite:
            _copy_sqlite(_sqlite_path(database), unfinished)
            _in_one_file(unfinished)
            _checked_sqlite(unfinished)
        else:
            # Who dumps needs no rights on owners, and who restores may be another role.
            words = ("--format=custom", "--no-owner", "--no-privileges", f"--file={unfinished}")
            _run(database.engine.url, "pg_dump", *words)
        with unfinished.open("rb") as handle:
            os.fsync(handle.fileno())
        unfinished.replace(target)
    except OSError as error:
        raise InvalidRequest(f"Cannot write '{target}': {error.strerror or error}.") from error
    finally:
        unfinished.unlink(missing_ok=True)


def restore(database: Database, source: Path, /, *, overwrite: bool, tables: Sequence[str]) -> None:
    """Puts a backup in the database's place, in whole or not at all.

    Raises:
        Conflict: The database holds tables already.
        InvalidRequest: The file is no sound backup of this kind of database, or is of a newer version.
    """
    if not source.is_file():
        raise InvalidRequest(f"There is no file '{source}'.")
    if current_revision(database) is not None and not overwrite:
        raise Conflict(
            f"{database.engine.url.render_as_string()} holds a database already. Stop the services and back it up, "
            "then replace it with --force."
        )
    if database.is_sqlite:
        _known(database, _checked_sqlite(source))
        _copy_sqlite(source, _sqlite_path(database))
    else:
        _restore_postgresql(database, source, tables)


def _sqlite_path(database: Database) -> Path:
    name = database.engine.url.database
    if not name or name == ":memory:":
        raise InvalidRequest("A database in memory has no file to back up.")
    return Path(name)


def _copy_sqlite(source: Path, target: Path) -> None:
    """As one transaction of the target, beside whoever reads or writes either."""
    try:
        here, there = sqlite3.connect(source, timeout=15), sqlite3.connect(target, timeout=15)
        with closing(here), closing(there):
            here.backup(there, pages=-1)
    except sqlite3.Error as error:
        raise InvalidRequest(f"Cannot copy '{source}' to '{target}': {error}.") from error


def _in_one_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def _checked_sqlite(path: Path) -> str:
    """The revision of a sound database."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            problems = [row[0] for row in connection.execute("PRAGMA quick_check")]
            if problems != ["ok"]:
                raise InvalidRequest(f"'{path}' is damaged: {'; '.join(problems[:3])}.")
            revision = connection.execute(f"SELECT version_num FROM {REVISIONS}").fetchone()  # noqa: S608
    except sqlite3.Error as error:
        raise InvalidRequest(f"'{path}' is no backup of an SQLite database of zooscout: {error}.") from error
    if revision is None:
        raise InvalidRequest(f"'{path}' is a database without a schema.")
    return str(revision[0])


def _known(database: Database, revision: str) -> None:
    if revision not in known_revisions():
        raise InvalidRequest(
            f"The backup is at migration {revision}, which this version does not know: use the version that made it."
        )


def _restore_postgresql(database: Database, source: Path, tables: Sequence[str]) -> None:
    url = database.engine.url
    present = sorted({*inspect(database.engine).get_table_names()} & {*tables, REVISIONS})
    database.dispose()
    with tempfile.TemporaryDirectory(prefix="zooscout-restore-") as folder:
        script = Path(folder) / "restore.sql"
        # To a file first: psql would commit what came before an unreadable part.
        _run(None, "pg_restore", "--no-owner", "--no-privileges", f"--file={script}", str(source))
        _known(database, _revision_in(script))
        quote = database.engine.dialect.identifier_preparer.quote
        drop = [f"--command=DROP TABLE {', '.join(map(quote, present))} CASCADE"] if present else []
        _run(
            url, "psql", "--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1",
            f"--command=SET lock_timeout = '{_LOCK_WAIT}'", *drop, f"--file={script}",
        )  # fmt: skip


def _revision_in(script: Path) -> str:
    with script.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("COPY ") and f".{REVISIONS} (" in line:
                return next(lines).strip()
    raise InvalidRequest("The backup holds no database of zooscout.")


def _connection(url: URL) -> tuple[list[str], dict[str, str]]:
    """Word and environment for libpq's programs; a password on a command line could be read by every user."""
    plain = url.set(drivername="postgresql", password=None).render_as_string()
    return [f"--dbname={plain}"], {"PGPASSWORD": str(url.password)} if url.password else {}


def _run(url: URL | None, program: str, *words: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise InvalidRequest(
            f"'{program}' is not on PATH. Backups of PostgreSQL need its client programs pg_dump, pg_restore and psql, "
            "of the server's version or newer."
        )
    where, secret = ([], {}) if url is None else _connection(url)
    done = subprocess.run([found, *where, *words], env=os.environ | secret, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise InvalidRequest(f"{program} failed, and nothing was changed: {done.stderr.strip()[-600:]}")
