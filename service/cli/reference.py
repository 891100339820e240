"""`zooscout reference`."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import connected
from service.cli.output import out, print_json

app = typer.Typer(
    help="The reference set: generic images against which PED and the Fréchet divergence compare.", no_args_is_help=True
)
AsJson = Annotated[bool, typer.Option("--json", help="the shape of GET /v1/reference")]


@app.command("set")
def name(
    dataset: Annotated[
        str, typer.Argument(help="id or name of a sealed dataset; or a folder or an archive, which is taken in first")
    ],
    as_json: AsJson = False,
) -> None:
    """Name the reference set, in place of the one before.

    Each model embeds it once, when a ranking next needs it; no target image is embedded again and no score that does
    not depend on it is computed again. Choose generic photographs, a few hundred or more; their labels do not matter.

    Example: zooscout reference set photographs/
    """
    from service.cli.rank import take_in

    with connected() as at:
        ident = take_in(at, Path(dataset), None).id if Path(dataset).exists() else dataset
        view = at.client.set_reference(ident)
    if as_json:
        print_json(view)
    else:
        out.print(f"{view.name} ({view.n_images} images) is the reference set of the rankings from now on.")


@app.command("show")
def show(as_json: AsJson = False) -> None:
    """Which dataset is the reference set."""
    with connected() as at:
        view = at.client.reference()
    if as_json:
        print_json(view)
    else:
        out.print(
            f"{view.name}: {view.n_images} images, {view.dataset}, fingerprint {view.fingerprint[:12]}, "
            f"named {view.set_at:%Y-%m-%d %H:%M}."
        )


@app.command("clear")
def clear() -> None:
    """Go on without a reference set. The dataset stays, and so does every score."""
    with connected() as at:
        at.client.clear_reference()
    out.print("There is no reference set now; rankings made so far keep theirs.")
