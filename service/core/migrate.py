"""Brings a database to the schema of this code."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import service
from service.core.db import Database
from service.core.errors import SchemaOutdated


def _script_location() -> Path:
    package = Path(service.__file__).parent
    packaged = package / "_migrations"
    return packaged if packaged.is_dir() else package.parent / "migrations"


def alembic_config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_script_location()))
    config.attributes["engine"] = database.engine
    return config


def head_revision(database: Database) -> str | None:
    return ScriptDirectory.from_config(alembic_config(database)).get_current_head()


def current_revision(database: Database) -> str | None:
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(database: Database) -> None:
    command.upgrade(alembic_config(database), "head")


def ensure_schema(database: Database) -> None:
    """Migrates SQLite and an empty PostgreSQL; an old PostgreSQL is its operator's to migrate.

    Raises:
        SchemaOutdated: The database is at another revision than this code.
    """
    current, head = current_revision(database), head_revision(database)
    if current == head:
        return
    if database.is_sqlite or current is None:
        upgrade(database)
        return
    raise SchemaOutdated(f"The database is at migration {current}, this code at {head}: run `zooscout db upgrade`.")
