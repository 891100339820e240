"""`zooscout db`: the schema."""

import typer

from service.cli.output import fail, out
from service.core.db import Database
from service.core.migrate import current_revision, head_revision, upgrade
from service.core.settings import Settings
from service.schema import all_tables

app = typer.Typer(help="The database that ZOOSCOUT_DATABASE__URL names.", no_args_is_help=True)


@app.command("upgrade")
def upgrade_schema() -> None:
    """Bring the database to this version's schema."""
    all_tables()
    database = Database.from_settings(Settings())
    before = current_revision(database)
    upgrade(database)
    out.print(
        f"{database.engine.url.render_as_string(hide_password=True)}: "
        f"{before or 'empty'} → {current_revision(database)}"
    )


@app.command("check")
def check() -> None:
    """Say whether the schema is this version's. Exit status 1 when it is not."""
    database = Database.from_settings(Settings())
    current, head = current_revision(database), head_revision(database)
    if current != head:
        fail(f"The database is at migration {current or 'none'}, this code at {head}: run `zooscout db upgrade`.")
    out.print(f"At migration {head}.")
