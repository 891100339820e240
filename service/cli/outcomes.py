"""`zooscout outcomes`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from service.cli.connection import connected
from service.cli.exits import Exit
from service.cli.output import fail, out, print_json
from service.client.flows import to_json
from service.client.outcomes import Outcome, OutcomesAdded
from service.outcomes import files
from service.outcomes.schemas import OutcomeCreate

app = typer.Typer(help="Measured accuracies after fine-tuning: what predictions learn from.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json")]


@app.command("ls")
def list_outcomes(
    dataset: Annotated[str | None, typer.Option(help="id, name or fingerprint")] = None,
    model: Annotated[str | None, typer.Option(help="id or name")] = None,
    recipe: Annotated[str | None, typer.Option()] = None,
    history: Annotated[bool, typer.Option("--history", help="also what a later version superseded")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the shape of GET /v1/outcomes")] = False,
) -> None:
    """List outcomes, newest first."""
    with connected() as at:
        page = at.client.outcomes(
            dataset=dataset, model=model, recipe=recipe, history=history, limit=limit, cursor=cursor
        )
    if as_json:
        print_json(page)
        return
    table = Table()
    for column in ("dataset", "model", "accuracy", "90 % interval", "recipe", "source", "version"):
        table.add_column(column, overflow="fold")
    for view in page.items:
        interval = "" if view.interval is None else "{:.1%} – {:.1%}".format(*view.interval)
        cells = (f"{view.accuracy:.1%}", interval, view.recipe, view.source, str(view.version))
        table.add_row(view.dataset, view.model, *cells)
    out.print(table)
    if page.next_cursor is not None:
        out.print(f"There are more: --cursor {page.next_cursor}", soft_wrap=True)


@app.command("add")
def add(
    dataset: Annotated[str, typer.Argument(help="id or name; or any name, for a dataset that is not here")],
    model: Annotated[str, typer.Argument(help="id or name; or any name")],
    accuracy: Annotated[float, typer.Argument(help="on test images, as a share: 0.913")],
    n_test: Annotated[int | None, typer.Option(help="on how many images it was measured")] = None,
    recipe: Annotated[str, typer.Option(help="how it was fine-tuned")] = "unknown",
    source: Annotated[str, typer.Option(help="who says so")] = "unknown",
    as_json: AsJson = False,
) -> None:
    """Record one outcome. It supersedes an earlier one of the same dataset, model and recipe.

    Example: zooscout outcomes add flowers resnet18.a1_in1k 0.913 --n-test 400 --recipe "AdamW, 20 epochs"
    """
    given = OutcomeCreate(dataset=dataset, model=model, accuracy=accuracy, n_test=n_test, recipe=recipe, source=source)
    with connected() as at:
        _show(at.client.add_outcome(given), as_json=as_json)


@app.command("import")
def import_csv(
    file: Annotated[
        Path, typer.Argument(help="CSV: dataset, model, accuracy and, where known, n_test, recipe, source")
    ],
    as_json: AsJson = False,
) -> None:
    """Record every row of a CSV, or none. Importing it again adds nothing."""
    if not file.is_file():
        fail(f"There is no file '{file}'.", status=Exit.NOT_FOUND)
    with connected() as at:
        _show(at.client.import_outcomes(file), as_json=as_json)


@app.command("export")
def export(
    file: Annotated[Path | None, typer.Argument(help="where to; standard output if not given")] = None,
    history: Annotated[bool, typer.Option("--history", help="also what a later version superseded")] = False,
) -> None:
    """Write all outcomes as CSV, oldest first; `import` reads it."""
    with connected() as at:
        found: list[Outcome] = []
        page = at.client.outcomes(history=history, limit=1000)
        found += page.items
        while page.next_cursor is not None:
            page = at.client.outcomes(history=history, limit=1000, cursor=page.next_cursor)
            found += page.items
    text = files.write(map(to_json, reversed(found)))
    if file is None:
        typer.echo(text, nl=False)
    else:
        file.write_text(text, encoding="utf-8")


def _show(made: OutcomesAdded, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
        return
    out.print(_told(made), soft_wrap=True)


def _told(made: OutcomesAdded) -> str:
    parts = [f"{made.added} added"]
    if made.superseded:
        parts[0] += f", of which {made.superseded} in place of an earlier version"
    if made.unchanged:
        parts.append(f"{made.unchanged} known already")
    for names, kind in ((made.unknown_datasets, "dataset"), (made.unknown_models, "model")):
        if names:
            parts.append(f"no {kind} here is called {', '.join(names)}")
    return "; ".join(parts) + "."
