"""Fails when the migrations do not give the schema that the tables describe."""

import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from service.core.db import Database, make_engine
from service.core.migrate import upgrade
from service.schema import all_tables

with tempfile.TemporaryDirectory() as folder:
    database = Database(make_engine(f"sqlite:///{Path(folder) / 'check.sqlite'}", busy_timeout_ms=1000, pool_size=2))
    metadata = all_tables()
    upgrade(database)
    with database.engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
    database.dispose()
if differences:
    sys.exit("Migrations and tables differ:\n" + "\n".join(map(str, differences)))
print("Migrations equal the tables.")  # noqa: T201
