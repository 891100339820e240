"""`zooscout embeddings`."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import connected
from service.cli.exits import Exit
from service.cli.output import err, fail
from service.datasets.names import Split
from service.exports.names import Format

app = typer.Typer(help="Stored embeddings.", no_args_is_help=True)


@app.command("export")
def export(
    dataset: Annotated[str, typer.Argument(help="id or name")],
    model: Annotated[str, typer.Option("--model", "-m", help="id or name of the model that embedded it")],
    output: Annotated[Path, typer.Option("--output", "-o", help="the file to write; one that is there is replaced")],
    fmt: Annotated[
        Format | None, typer.Option("--format", "-f", help="npz for a file of that suffix, else parquet, if not given")
    ] = None,
    split: Annotated[Split | None, typer.Option(help="one split alone; every split if not given")] = None,
) -> None:
    """Write content hash, path, label, split and features of every image to Parquet or .npz.

    Example: zooscout embeddings export flowers --model resnet18.a1_in1k --split train --output flowers.parquet
    """
    if not output.absolute().parent.is_dir():
        fail(f"There is no folder '{output.parent}' to write into.", status=Exit.BAD_INPUT)
    chosen: Format = fmt or ("npz" if output.suffix == ".npz" else "parquet")
    partial = output.with_name(f"{output.name}.part")
    try:
        with connected() as at, err.status("writing"):
            size = at.client.export_embeddings(dataset, model, partial, fmt=chosen, split=split)
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
    err.print(f"{output} written ({size / 1e6:.1f} MB).")
