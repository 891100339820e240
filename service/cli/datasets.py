"""`zooscout datasets`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from service.cli.connection import connected
from service.cli.exits import Exit
from service.cli.output import fail, out, print_json

app = typer.Typer(help="Labelled image datasets.", no_args_is_help=True)


@app.command("add")
def add(
    path: Annotated[Path, typer.Argument(help="a folder, an archive or a Parquet file")],
    name: Annotated[str | None, typer.Option(help="the file's name if not given")] = None,
    text_column: Annotated[str | None, typer.Option(help="of a CSV or Parquet file of texts")] = None,
    label_column: Annotated[str | None, typer.Option(help="with --text-column; 'label' if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Check and seal a dataset: class folders (with train/val/test above them or not), a CSV manifest with images,
    Parquet with image bytes and labels; or, with --text-column, a CSV or Parquet file of texts and labels.

    Example: zooscout datasets add reviews.csv --text-column text --label-column label
    """
    from service.cli.rank import take_in
    from service.datasets.text_tables import TextColumns

    if not path.exists():
        fail(f"There is nothing at '{path}'.", status=Exit.NOT_FOUND)
    with connected() as at:
        view = take_in(at, path, name, TextColumns.asked(text_column, label_column))
    if as_json:
        print_json(view)
        return
    out.print(f"{view.name}: {view.n_images} {view.modality}s in {view.n_classes} classes, sealed as {view.id}.")
    for note in (view.report or {}).get("notes", []):
        out.print(f"  {note}")


@app.command("version")
def version(
    parent: Annotated[str, typer.Argument(help="id or name of a sealed dataset")],
    add_path: Annotated[
        Path | None, typer.Option("--add", help="a folder, an archive or a Parquet file with more labelled images")
    ] = None,
    remove_names: Annotated[
        list[str] | None,
        typer.Option("--remove", help="path or content hash of an image, or a .txt file with one a line; repeatable"),
    ] = None,
    relabel: Annotated[
        Path | None, typer.Option(help="a CSV with the header path,label: images by path or content hash, new classes")
    ] = None,
    name: Annotated[str | None, typer.Option(help="the parent's name with a number if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Make a dataset from a sealed one: add, remove or relabel images.

    Nothing of the parent is read or decoded again, and a ranking of the version embeds only what is new.

    Example: zooscout datasets version flowers --add more/ --remove blurred.txt --relabel corrected.csv
    """
    from service.cli.versions import make_version

    make_version(parent, add_path, remove_names or [], relabel, name, as_json=as_json)


@app.command("inspect")
def inspect(
    dataset: Annotated[str, typer.Argument(help="id or name of a sealed dataset")],
    model: Annotated[str, typer.Option("--model", "-m", help="id or name")],
    as_json: Annotated[bool, typer.Option("--json", help="the shape of GET /v1/inspections/{id}")] = False,
) -> None:
    """Look for near-copies, for leaks between splits and for likely label errors, by one model's embeddings.

    Every split is embedded by the model where it is not yet. Each image is compared with all others.
    """
    from service.cli.inspections import inspect_dataset

    inspect_dataset(dataset, model, as_json=as_json)


@app.command("neighbours")
def neighbours(
    dataset: Annotated[str, typer.Argument(help="id or name of a sealed dataset")],
    image: Annotated[str, typer.Argument(help="path or content hash of one of its images")],
    model: Annotated[str, typer.Option("--model", "-m", help="id or name")],
    k: Annotated[int, typer.Option("-k", min=1, max=200, help="how many")] = 10,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """The images of a dataset that are nearest to one of them, under a model that has embedded them."""
    from service.cli.inspections import show_neighbours

    show_neighbours(dataset, image, model, k, as_json=as_json)


@app.command("ls")
def list_datasets(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List datasets, newest first."""
    with connected() as at:
        page = at.client.datasets(limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    table = Table()
    for column in ("id", "name", "state", "holds", "", "classes", "made"):
        table.add_column(column, overflow="fold")
    for view in page.items:
        size, classes = ("" if n is None else str(n) for n in (view.n_images, view.n_classes))
        made = f"{view.created_at:%Y-%m-%d %H:%M}"
        table.add_row(view.id, view.name, view.state, size, f"{view.modality}s", classes, made)
    out.print(table)


@app.command("show")
def show(dataset: Annotated[str, typer.Argument(help="id or name")]) -> None:
    """State, report and fingerprint of a dataset, as JSON."""
    with connected() as at:
        print_json(at.client.dataset(dataset))


@app.command("rm")
def remove(
    dataset: Annotated[str, typer.Argument(help="id or name")],
    purge: Annotated[bool, typer.Option("--purge", help="remove its images now, not at the next collection")] = False,
) -> None:
    """Remove a dataset with its rankings and scores."""
    from service.cli.store import collect_now

    with connected() as at:
        at.client.remove_dataset(dataset, purge=purge)
        if at.context is not None:
            collect_now(at.context)
