"""`zooscout datasets`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from service.cli.embedded import PROJECT, embedded
from service.cli.output import fail, out, print_json
from service.datasets import service as datasets
from service.rankings import service as rankings

app = typer.Typer(help="Labelled image datasets.", no_args_is_help=True)


@app.command("add")
def add(
    path: Annotated[Path, typer.Argument(help="a folder, an archive or a Parquet file")],
    name: Annotated[str | None, typer.Option(help="the file's name if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Check and seal a dataset: class folders (with train/val/test above them or not), a CSV manifest with images, or
    Parquet with image bytes and labels."""
    from service.cli.rank import take_in

    if not path.exists():
        fail(f"There is nothing at '{path}'.")
    with embedded() as context:
        ident = take_in(context, path, name)
        with context.database.read() as session:
            view = datasets.show(session, PROJECT, ident)
    if as_json:
        print_json(view)
        return
    out.print(f"{view.name}: {view.n_images} images in {view.n_classes} classes, sealed as {view.id}.")
    for note in (view.report or {}).get("notes", []):
        out.print(f"  {note}")


@app.command("ls")
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List datasets, newest first."""
    with embedded() as context, context.database.read() as session:
        page = datasets.list_datasets(session, PROJECT, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    table = Table()
    for column in ("id", "name", "state", "images", "classes", "made"):
        table.add_column(column, overflow="fold")
    for view in page.items:
        numbers = ["" if n is None else str(n) for n in (view.n_images, view.n_classes)]
        table.add_row(view.id, view.name, view.state, *numbers, f"{view.created_at:%Y-%m-%d %H:%M}")
    out.print(table)


@app.command("show")
def show(dataset: Annotated[str, typer.Argument(help="id or name")]) -> None:
    """State, report and fingerprint of a dataset, as JSON."""
    with embedded() as context, context.database.read() as session:
        print_json(datasets.show(session, PROJECT, dataset))


@app.command("rm")
def remove(
    dataset: Annotated[str, typer.Argument(help="id or name")],
    purge: Annotated[bool, typer.Option("--purge", help="remove its images now, not at the next collection")] = False,
) -> None:
    """Remove a dataset with its rankings and scores."""
    from service.cli.store import collect_now

    with embedded() as context:
        with context.database.write() as session:
            rankings.remove_dataset(session, PROJECT, dataset, purge=purge)
        collect_now(context)
