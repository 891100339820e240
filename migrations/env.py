"""Alembic's entry: runs on the engine that the caller hands over, or on the one that ZOOSCOUT_DATABASE__URL names."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from service.core.db import Database, UtcDateTime
from service.core.migrate import migration
from service.core.settings import Settings
from service.schema import all_tables


def render_item(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """A migration names the plain column type, so that it does not change when the code's own type does."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


engine = context.config.attributes.get("engine") or Database.from_settings(Settings()).engine
with migration(engine, all_tables().tables) as connection:
    context.configure(
        connection=connection,
        target_metadata=all_tables(),
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=render_item,
    )
    context.run_migrations()
