"""`zooscout estimators`."""

from typing import Annotated

import typer
from rich.table import Table

from estimators.catalog import SPECS, Direction
from service.cli.output import out, print_json
from service.plugins import load_plugins
from service.scoring.panel import DEFAULT_PANEL


def list_estimators(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """List the estimators: what each measures, needs and is defined for."""
    load_plugins()
    if as_json:
        from service.api.v1.estimators import list_estimators as table

        print_json(table())
        return
    rows = Table(caption="* in the default panel", caption_justify="left")
    for column in ("name", "measures", "needs", "tasks", "better", "reference"):
        rows.add_column(column, overflow="fold")
    for spec in SPECS.values():
        rows.add_row(
            f"{spec.name}{' *' if spec.name in DEFAULT_PANEL else ''}",
            spec.summary,
            ", ".join(sorted(spec.needs)),
            ", ".join(sorted(spec.tasks)),
            "higher" if spec.direction is Direction.HIGHER_IS_BETTER else "lower",
            spec.reference,
        )
    out.print(rows)
