"""`zooscout rankings`."""

from typing import Annotated

import typer
from rich.table import Table

from service.cli.embedded import PROJECT, embedded
from service.cli.output import out, print_json, print_ranking
from service.jobs import repository as jobs
from service.rankings import service as rankings

app = typer.Typer(help="Rankings made so far.", no_args_is_help=True)


@app.command("ls")
def list_rankings(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List rankings, newest first."""
    with embedded() as context, context.database.read() as session:
        page = rankings.list_rankings(session, PROJECT, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    table = Table()
    for column in ("id", "dataset", "state", "models", "made"):
        table.add_column(column, overflow="fold")
    for item in page.items:
        table.add_row(item.id, item.dataset.name, item.state, str(item.n_models), f"{item.created_at:%Y-%m-%d %H:%M}")
    out.print(table)


@app.command("show")
def show(
    ranking: Annotated[str, typer.Argument(help="id")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Show a ranking."""
    with embedded() as context, context.database.read() as session:
        view = rankings.show(session, PROJECT, ranking)
    if as_json:
        print_json(view)
    else:
        print_ranking(view)


@app.command("rm")
def remove(
    ranking: Annotated[str, typer.Argument(help="id")],
    purge: Annotated[bool, typer.Option("--purge", help="collect at once what no other row needs")] = False,
) -> None:
    """Remove a ranking; scores and embeddings stay for the next one."""
    from service.cli.store import collect_now

    with embedded() as context:
        with context.database.write() as session:
            rankings.remove(session, PROJECT, ranking)
            jobs.enqueue_collection(session, PROJECT, purge=purge)
        collect_now(context)
