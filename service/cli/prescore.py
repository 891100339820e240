"""`zooscout prescore`, `prescores` and `changes`: scores ahead of any question, and what they changed."""

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from service.cli.connection import Connection, connected
from service.cli.exits import Exit, Interrupted
from service.cli.output import err, out, print_json
from service.client.flows import to_json
from service.client.prescores import Changes, Pair, Prescore
from service.models.schemas import ModelFilter
from service.prescores.schemas import PrescoreCreate

app = typer.Typer(help="Prescores made so far.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json")]
PAGE = 1000
SHOWN_CHANGES = 20


def prescore(
    new: Annotated[
        bool, typer.Option("--new", help="only pairs without a score that no earlier prescore has seen fail")
    ] = False,
    models: Annotated[
        str | None, typer.Option("--models", "-m", help="glob over names; every model if not given")
    ] = None,
    datasets: Annotated[
        str | None, typer.Option("--datasets", "-d", help="glob over names; every sealed dataset if not given")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="90s, 10m, 2h, or images that models look at: 5000img; the rest is skipped")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="the prescore, its pairs and the changes, as the API gives them")
    ] = False,
) -> None:
    """Score models on your sealed datasets before anybody asks, cheapest first, and say what that changes.

    What is embedded or scored already is not computed again. Interrupted or killed, the same command goes on. Exit
    status: 0 when it is done, 6 when some pairs failed.

    Example: zooscout models import timm --filter 'resnet*' && zooscout prescore --new --budget 2h
    """
    wanted = ModelFilter(name=models) if models is not None else None
    request = PrescoreCreate(models=wanted, datasets=datasets, new=new, budget=budget)
    with connected() as at:
        found = follow_prescore(at, at.client.start_prescore(request).id)
        show_and_exit(at, found, as_json=as_json)


def follow_prescore(at: Connection, ident: str, /) -> Prescore:
    from service.cli.rank import bars

    subjects = [ident]
    with bars() as shown:
        bar = shown.add_task("planning", total=None)

        def look() -> Prescore:
            found = at.client.show_prescore(ident)
            subjects.extend(ranking for ranking in found.rankings if ranking not in subjects)
            return found

        def watch(found: Prescore) -> None:
            counts = found.pairs
            ended = counts.done + counts.failed + counts.skipped
            total = ended + counts.waiting + counts.running
            shown.update(bar, description="pairs", completed=ended, total=total or None)

        try:
            return at.settle(subjects, look, lambda found: found.ended, watch)
        except KeyboardInterrupt:
            if at.url is None:
                raise
            raise Interrupted(
                f"Interrupted. The prescore goes on at {at.url}:\n"
                f"  zooscout prescores show {ident} --url {at.url}    says how far it is\n"
                f"  zooscout prescores rm {ident} --url {at.url}      stops it"
            ) from None


def pairs_of(at: Connection, ident: str, /) -> list[Pair]:
    found: list[Pair] = []
    cursor: str | None = None
    while True:
        page = at.client.pairs(ident, limit=PAGE, cursor=cursor)
        found.extend(page.items)
        cursor = page.next_cursor
        if cursor is None:
            return found


def show_and_exit(at: Connection, found: Prescore, /, *, as_json: bool) -> None:
    listed, changed = pairs_of(at, found.id), at.client.changes(prescore=found.id, limit=PAGE)
    if as_json:
        print_json({"prescore": to_json(found), "pairs": to_json(listed), "changes": to_json(changed.items)})
    else:
        _print_pairs(listed)
        _print_changes(changed)
        counts = found.pairs
        err.print(f"{found.id}: {counts.done} done, {counts.failed} failed, {counts.skipped} skipped.")
        if found.error:
            err.print(f"{found.error.get('title')}: {found.error.get('detail')}", markup=False)
    if found.state == "failed":
        raise typer.Exit(Exit.FAILED)
    if found.pairs.failed:
        raise typer.Exit(Exit.SOME_FAILED)


def _print_pairs(listed: list[Pair]) -> None:
    if not listed:
        out.print("Nothing is to be scored: every pair that is meant has its score.")
        return
    table = Table()
    for column in ("model", "dataset", "images", "state", "why"):
        table.add_column(column, overflow="fold")
    for pair in listed:
        table.add_row(pair.model, pair.dataset, f"{pair.images:,}", pair.state, pair.reason or "")
    out.print(table)


def _print_changes(changed: Changes) -> None:
    if not changed.items:
        return
    table = Table(title="Recommendations that changed", title_justify="left")
    for column in ("dataset", "before", "now", "when"):
        table.add_column(column, overflow="fold")
    for item in changed.items:
        names = ("\n".join(f"{n}. {name}" for n, name in enumerate(of, start=1)) for of in (item.before, item.after))
        table.add_row(item.dataset, *names, f"{item.created_at:%Y-%m-%d %H:%M}")
    out.print(table)


def changes(
    dataset: Annotated[str | None, typer.Option(help="id or name")] = None,
    prescore: Annotated[str | None, typer.Option(help="id of the prescore that made them")] = None,
    since: Annotated[datetime | None, typer.Option(help="in UTC")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = SHOWN_CHANGES,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the shape of GET /v1/changes")] = False,
) -> None:
    """List the datasets whose first three recommended models changed, newest first.

    Webhooks hear of the same as `recommendation.changed`.
    """
    from datetime import UTC

    moment = None if since is None else since.replace(tzinfo=UTC)
    with connected() as at:
        found = at.client.changes(dataset=dataset, prescore=prescore, since=moment, limit=limit, cursor=cursor)
    if as_json:
        print_json(found)
    elif found.items:
        _print_changes(found)
        if found.next_cursor:
            err.print(f"There are more: --cursor {found.next_cursor}", soft_wrap=True)
    else:
        out.print("No recommendation has changed.")


@app.command("ls")
def list_prescores(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: AsJson = False,
) -> None:
    """List prescores, newest first."""
    with connected() as at:
        page = at.client.prescores(limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    table = Table()
    for column in ("id", "state", "done", "failed", "skipped", "open", "asked for by", "made"):
        table.add_column(column, overflow="fold")
    for item in page.items:
        counts = item.pairs
        numbers = (counts.done, counts.failed, counts.skipped, counts.waiting + counts.running)
        by = "the schedule" if item.scheduled else "you"
        table.add_row(item.id, item.state, *map(str, numbers), by, f"{item.created_at:%Y-%m-%d %H:%M}")
    out.print(table)


@app.command("show")
def show(prescore: Annotated[str, typer.Argument(help="id")], as_json: AsJson = False) -> None:
    """One row a pair, and what changed. Exit statuses are those of `zooscout prescore`."""
    with connected() as at:
        show_and_exit(at, at.client.show_prescore(prescore), as_json=as_json)


@app.command("follow")
def follow(prescore: Annotated[str, typer.Argument(help="id")], as_json: AsJson = False) -> None:
    """Wait until a prescore has ended, then show it. Without --url this process does what is left of the work."""
    with connected() as at:
        show_and_exit(at, follow_prescore(at, prescore), as_json=as_json)


@app.command("rm")
def remove(prescore: Annotated[str, typer.Argument(help="id")]) -> None:
    """Remove a prescore and stop what it has not done; scores, embeddings and finished rankings stay."""
    with connected() as at:
        at.client.remove_prescore(prescore)
