"""`zooscout embeddings`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from service.cli.embedded import PROJECT, embedded
from service.cli.output import err, fail
from service.datasets.names import Split
from service.exports.formats import Format, stream
from service.exports.selection import select

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
        fail(f"There is no folder '{output.parent}' to write into.")
    chosen: Format = fmt or ("npz" if output.suffix == ".npz" else "parquet")
    with embedded() as context:
        with context.database.read() as session:
            selection = select(
                session,
                PROJECT,
                dataset=dataset,
                model=model,
                split=split,
                manifest_root=context.settings.manifest_root,
                store=context.store,
            )
        partial = output.with_name(f"{output.name}.part")
        try:
            with partial.open("wb") as file, Progress(console=err, transient=True, disable=not err.is_terminal) as bars:
                bar = bars.add_task("writing", total=None)
                for data in stream(selection, chosen):
                    file.write(data)
                    bars.update(bar, advance=len(data))
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
    err.print(f"{len(selection.manifest)} rows written to {output} ({output.stat().st_size / 1e6:.1f} MB).")
