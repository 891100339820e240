"""`zooscout score`: estimators on features that you already have."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from estimators.catalog import SPECS
from service.cli.connection import connected, target
from service.cli.estimators import list_estimators
from service.cli.exits import Exit
from service.cli.output import fail, out, print_json
from service.core.settings import Settings
from service.scoring.arrays import NAMES, read_arrays
from service.scoring.panel import OWN_FEATURES_PANEL, chosen


def score(
    file: Annotated[
        Path | None, typer.Argument(help=f".npz or Parquet with features [N, D] and labels; arrays: {', '.join(NAMES)}")
    ] = None,
    estimators: Annotated[
        str | None,
        typer.Option(
            "--estimators", "-e", help=f"comma-separated, or all; {', '.join(OWN_FEATURES_PANEL)} if not given"
        ),
    ] = None,
    list_them: Annotated[bool, typer.Option("--list", help="print the table of estimators and stop")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Score your own features, with no model, no database and no server.

    Example: zooscout score features.npz --estimators all --json
    """
    if list_them:
        list_estimators(as_json=as_json)
        return
    if file is None:
        fail(
            "Name a file with the arrays features [N, D] and labels [N]; `zooscout score --help` says more.",
            status=Exit.USAGE,
        )
    if not file.is_file():
        fail(f"There is no file '{file}'.", status=Exit.NOT_FOUND)
    names = chosen(None if estimators is None else estimators.split(","), default=OWN_FEATURES_PANEL)
    url, _ = target()
    if url is not None:
        with connected() as at:
            answer = at.client.score(file, estimators=names)
        if answer.error:
            fail(f"{answer.error.get('title')}: {answer.error.get('detail')}", status=Exit.BAD_INPUT)
        results, title = {name: dict(score) for name, score in answer.scores.items()}, file.name
    else:
        results, title = _scored(file, names)
    if as_json:
        print_json({"scores": results})
        return
    table = Table(title=title, title_justify="left")
    for column in ("estimator", "value", "± stderr", "better", "seconds"):
        table.add_column(column, overflow="fold")
    for name, result in results.items():
        table.add_row(name, *_cells(result), str(SPECS[name].direction), f"{result['seconds']:.2g}")
    out.print(table)


def _scored(file: Path, names: list[str]) -> tuple[dict[str, dict[str, Any]], str]:
    """With no database and no server."""
    from service.compute.own_scores import score_arrays

    arrays = read_arrays(file, max_bytes=Settings().scoring.max_array_bytes)
    n, width = arrays.features.shape
    return score_arrays(arrays, names), f"{file.name}: {n} rows of {width} features"


def _cells(result: dict[str, Any]) -> tuple[str, str]:
    if "value" not in result:
        return str(result.get("degenerate") or f"needs {result.get('missing')}"), ""
    stderr = result["stderr"]
    return f"{result['value']:.6g}", "" if stderr is None else f"{stderr:.2g}"
