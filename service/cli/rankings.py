"""`zooscout rankings`."""

from typing import Annotated

import typer
from rich.table import Table

from service.cli.connection import connected
from service.cli.exits import Exit
from service.cli.output import fail, out, print_json, print_ranking
from service.jobs import repository as jobs

app = typer.Typer(help="Rankings made so far.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json")]


@app.command("ls")
def list_rankings(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: AsJson = False,
) -> None:
    """List rankings, newest first."""
    with connected() as at:
        page = at.client.rankings(limit=limit, cursor=cursor)
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
def show(ranking: Annotated[str, typer.Argument(help="id")], as_json: AsJson = False) -> None:
    """Show a ranking as it is now."""
    with connected() as at:
        found = at.client.ranking(ranking)
    if as_json:
        print_json(found)
    else:
        print_ranking(found.view())


@app.command("follow")
def follow(ranking: Annotated[str, typer.Argument(help="id")], as_json: AsJson = False) -> None:
    """Wait until a ranking has ended, then show it. Exit statuses are those of `zooscout rank`.

    Without --url this process does what is left of the work.
    """
    from service.cli.rank import follow_ranking, show_and_exit

    with connected() as at:
        found = follow_ranking(at, ranking)
    show_and_exit(found, as_json=as_json)


@app.command("cancel")
def cancel(ranking: Annotated[str, typer.Argument(help="id")], as_json: AsJson = False) -> None:
    """Stop a ranking and keep what was scored; one that has ended stays as it is."""
    with connected() as at:
        found = at.client.cancel_ranking(ranking)
    if as_json:
        print_json(found)
    else:
        print_ranking(found.view())


@app.command("rm")
def remove(
    ranking: Annotated[str, typer.Argument(help="id")],
    purge: Annotated[bool, typer.Option("--purge", help="collect at once what no other row needs")] = False,
) -> None:
    """Remove a ranking, and stop it if it runs; scores and embeddings stay for the next one."""
    from service.cli.embedded import PROJECT
    from service.cli.store import collect_now

    with connected() as at:
        if purge and at.context is None:
            fail("--purge of a ranking works on the machine of the service alone.", status=Exit.USAGE)
        at.client.remove_ranking(ranking)
        if at.context is not None:
            if purge:
                with at.context.database.write() as session:
                    jobs.enqueue_collection(session, PROJECT, purge=True)
            collect_now(at.context)
