"""`zooscout recommend`."""

from typing import Annotated

import typer
from rich.table import Table

from service.cli.connection import Connection, connected
from service.cli.output import count, out, print_json
from service.client import ApiProblem
from service.recommendations.model import Recommendation
from service.recommendations.policy import prior_in_words


def recommend(
    dataset: Annotated[str, typer.Argument(help="id or name")],
    ranking: Annotated[str | None, typer.Option(help="one that is done; the newest of the dataset if unset")] = None,
    max_params: Annotated[int | None, typer.Option(min=0)] = None,
    max_input_size: Annotated[int | None, typer.Option(min=1, help="pixels a side")] = None,
    max_milliseconds: Annotated[float | None, typer.Option(help="each, as measured while embedding")] = None,
    max_weights_bytes: Annotated[int | None, typer.Option(min=0, help="of the weights in float32")] = None,
    max_forward_bytes: Annotated[
        int | None, typer.Option(min=0, help="of weights and tensors while one image or text passes, as measured")
    ] = None,
    licence: Annotated[str | None, typer.Option()] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the shape of GET /v1/datasets/{id}/recommendations")] = False,
) -> None:
    """Which model to fine-tune on a dataset, within constraints, and why.

    Evidence is what the newest finished ranking saw in the dataset; the prior is what outcomes on other datasets say.
    Together they foretell the accuracy after fine-tuning, with its 90 % interval and the probability of being the best.

    Example: zooscout recommend flowers --max-params 30000000
    """
    with connected() as at:

        def ask() -> Recommendation:
            return at.client.recommend(
                dataset,
                ranking=ranking,
                max_params=max_params,
                max_input_size=max_input_size,
                max_milliseconds=max_milliseconds,
                max_weights_bytes=max_weights_bytes,
                max_forward_bytes=max_forward_bytes,
                licence=licence,
            )

        found = ask()
        if found.ranking is None and _looked_at(at, found.dataset_id):
            found = ask()
    if as_json:
        from dataclasses import asdict

        print_json(asdict(found))
    else:
        _show(found)


def _looked_at(at: Connection, dataset: str) -> bool:
    """Before any candidate has run, one small model says in seconds which known datasets this one is like."""
    try:
        asked = at.client.start_signature(dataset)
    except ApiProblem as problem:
        if problem.status not in {403, 409}:  # a key that may only read, or no model at hand
            raise
        return False
    if asked.ended:
        return False
    look = at.settle([dataset], lambda: at.client.signature(dataset), lambda found: found.ended, lambda _found: None)
    return look.state == "done"


def _show(found: Recommendation) -> None:
    table = Table(title=found.dataset, title_justify="left")
    names = (
        "rank",
        "model",
        "expected",
        "P(best)",
        "evidence",
        "prior",
        "parameters",
        "ms each",
        "MB",
        "licence",
        "front",
    )
    for column in names:
        table.add_column(column, overflow="fold")
    for entry in found.entries:
        seen, before, told = entry.evidence, entry.prior, entry.expected
        chance = told.probability_best if told else seen.probability_best if seen else None
        table.add_row(
            "–" if entry.rank is None else f"{entry.rank}{' =' if entry.tied_with else ''}",
            entry.model,
            "" if told is None else f"{told.accuracy:.1%} ({told.interval[0]:.0%} to {told.interval[1]:.0%})",
            "" if chance is None else f"{chance:.0%}",
            "" if seen is None else f"{seen.value:.4g}" + ("" if seen.stderr is None else f" ± {seen.stderr:.2g}"),
            "" if before is None else f"{prior_in_words(before)} ({before.basis})",
            count(entry.params),
            "" if entry.milliseconds is None else f"{entry.milliseconds:.3g}",
            "" if entry.forward_bytes is None else f"{entry.forward_bytes / 1e6:.3g}",
            entry.licence or "?",
            "•" if entry.on_front else "",
        )
    out.print(table)
    for line in (*found.said, *found.warnings):
        out.print(line, markup=False)
    for left in found.excluded:
        out.print(f"left out: {left.model}: {left.reason}", markup=False)
