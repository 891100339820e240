"""`zooscout agreement`."""

from typing import Annotated

import typer
from rich.table import Table

from service.cli.connection import connected
from service.cli.output import out, print_json


def agreement(
    as_json: Annotated[bool, typer.Option("--json", help="the shape of GET /v1/estimators/agreement")] = False,
) -> None:
    """How well each estimator and the recommendation have done on your outcomes so far.

    Weighted tau compares the order that was foretold with the order that fine-tuning gave: 1 is the same, 0 is chance.
    Regret is what the best of the first (three) falls short of the best of all, in points of accuracy. The
    recommendation foretells each dataset without its outcomes, as if they were still to come.

    Example: zooscout agreement
    """
    with connected() as at:
        found = at.client.estimators_agreement()
    if as_json:
        from dataclasses import asdict

        print_json(asdict(found))
        return
    if found.entries:
        table = Table()
        for column in ("", "datasets", "pairs", "weighted tau", "90 %", "regret@1", "regret@3"):
            table.add_column(column)
        for entry in found.entries:
            held = entry.tau_interval
            table.add_row(
                entry.name,
                str(entry.datasets),
                str(entry.pairs),
                "–" if entry.tau is None else f"{entry.tau:.3f}",
                "" if held is None else f"{held[0]:.2f} to {held[1]:.2f}",
                "–" if entry.regret_1 is None else f"{entry.regret_1:.2f}",
                "–" if entry.regret_3 is None else f"{entry.regret_3:.2f}",
            )
        out.print(table)
    for line in found.said:
        out.print(line, markup=False)
