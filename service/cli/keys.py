"""`zooscout keys`: who may use the service from elsewhere."""

from typing import Annotated

import typer
from rich.table import Table

from service.cli.embedded import embedded
from service.cli.output import err, out, print_json
from service.keys import repository, service
from service.keys.schemas import KeyCreate, KeyList, Scope
from service.keys.tables import DEFAULT_PROJECT

app = typer.Typer(help="API keys: needed as soon as the service is reached from elsewhere.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="what the key is for")],
    scope: Annotated[Scope, typer.Option(help="each reaches as far as those before it")] = Scope.WRITE,
    project: Annotated[str, typer.Option(help="made if it is new; projects do not see each other")] = DEFAULT_PROJECT,
    expires_in_days: Annotated[int | None, typer.Option(min=1, max=3650)] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Make a key and print it. It is shown this once: the service keeps only its hash.

    Example: curl -H "Authorization: Bearer $(zooscout keys create nightly --scope write)" …
    """
    with embedded() as context, context.database.write() as session:
        owner = repository.project_named(session, project)
        made = service.create(session, owner.id, KeyCreate(name=name, scope=scope, expires_in_days=expires_in_days))
    if as_json:
        print_json(made)
        return
    err.print(f"Key '{made.name}' ({made.id}) for project '{made.project}', scope {made.scope}. It is shown this once:")
    out.print(made.key, soft_wrap=True)


@app.command("ls")
def list_keys(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the keys of every project, newest first."""
    with embedded() as context, context.database.read() as session:
        found = service.list_keys(session, None)
    if as_json:
        print_json(KeyList(items=found))
        return
    table = Table()
    for column in ("id", "name", "project", "scope", "made", "last used", "state"):
        table.add_column(column, overflow="fold")
    for key in found:
        state = "revoked" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "valid"
        used = f"{key.last_used_at:%Y-%m-%d %H:%M}" if key.last_used_at else "never"
        table.add_row(key.id, key.name, key.project, key.scope, f"{key.created_at:%Y-%m-%d}", used, state)
    out.print(table)


@app.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="its id, see `zooscout keys ls`")]) -> None:
    """Revoke a key, at once and for good."""
    with embedded() as context, context.database.write() as session:
        gone = service.revoke(session, key)
    out.print(f"Revoked '{gone.name}' ({gone.id}).")
