"""`zooscout finetune`: what a ranking predicts, measured."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.cli.embedded import PROJECT, embedded
from service.cli.exits import Exit
from service.cli.output import err, fail, out, print_json
from service.datasets import repository as dataset_rows
from service.datasets import service as datasets
from service.models import repository as models
from service.models.schemas import ModelFilter
from service.outcomes import service as outcomes
from service.outcomes.schemas import OutcomeCreate, OutcomeView
from service.worker.context import WorkerContext
from zoo.catalog import ModelCard

if TYPE_CHECKING:
    from service.compute.finetuning import Sets
    from service.compute.training import Recipe

SOURCE = "zooscout finetune"


@dataclass(slots=True)
class Measured:
    """One line of the answer; either `accuracy` or `error` is there."""

    model: str
    accuracy: float | None = None
    interval: list[float] | None = None
    probe: float | None = None
    learning_rate: float | None = None
    epoch: int | None = None
    seconds: float | None = None
    outcome_id: str | None = None
    measured_before: bool = False
    error: str | None = None


class BudgetSpent(Exception):
    """The seconds are over."""


def finetune(
    dataset: Annotated[str, typer.Argument(help="id or name of a sealed dataset; `zooscout datasets add` makes one")],
    model_globs: Annotated[list[str], typer.Argument(metavar="MODEL", help="names or ids; a glob such as 'resnet*'")],
    recipe: Annotated[
        Literal["fast", "default"],
        typer.Option(help="fast: one learning rate, 3 epochs, 1000 images; default: two, 6 epochs, 5000 images"),
    ] = "default",
    budget: Annotated[
        float | None, typer.Option(min=1, help="seconds for all models; what is unfinished then is not measured")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Fine-tune a few models for real and measure them on images they were not trained on.

    A ridge head is fitted first, then every weight is trained with normalisation frozen; a share of the training images
    chooses learning rate and epoch, where epoch 0 is the ridge head itself. Accuracies are recorded as outcomes, from
    which predictions learn; what the same recipe measured before is not measured again. The interval (90 %, Wilson)
    says what so few test images leave open.

    Works on the CPU of this machine. Exit status: 0 when every model was measured, 6 when some were not, 1 when none.

    Example: zooscout finetune flowers resnet18.a1_in1k 'efficientnet_lite*' --recipe fast
    """
    began = time.monotonic()
    with embedded() as context:
        cards, row_id, name = _chosen(context, dataset, model_globs)
        from service.compute import finetuning

        chosen = {"fast": finetuning.FAST, "default": finetuning.DEFAULT}[recipe]
        with _bars() as bars:

            def left() -> None:
                if budget is not None and time.monotonic() - began > budget:
                    raise BudgetSpent

            data = _data(context, row_id, chosen, bars)
            results = [_measured(context, row_id, card, data, chosen, bars, left, budget) for card in cards]
    results.sort(key=lambda r: -1.0 if r.accuracy is None else r.accuracy, reverse=True)
    numbers = {"train": len(data.train), "test": len(data.test), "tested_on": data.tested_on, "sampled": data.sampled}
    if as_json:
        print_json({"dataset": name, "recipe": asdict(chosen), **numbers, "results": [asdict(r) for r in results]})
    else:
        _print(name, chosen, data, results)
    failed = sum(result.error is not None for result in results)
    if failed:
        raise typer.Exit(Exit.FAILED if failed == len(results) else Exit.SOME_FAILED)


def _chosen(context: WorkerContext, dataset: str, globs: list[str]) -> tuple[list[ModelCard], str, str]:
    with context.database.read() as session:
        if dataset_rows.find(session, PROJECT, dataset) is None:
            fail(f"There is no dataset '{dataset}'; `zooscout datasets add PATH` takes one in.", status=Exit.NOT_FOUND)
        row = datasets.sealed(session, PROJECT, dataset)
        if row.modality != "image":
            fail(f"'{row.name}' holds texts: what is fine-tuned here are image models.", status=Exit.BAD_INPUT)
        found: dict[str, ModelCard] = {}
        for glob in globs:
            exact = models.find(session, PROJECT, glob)
            ids = (
                [exact.id]
                if exact
                else models.matching_ids(session, PROJECT, ModelFilter(name=glob, modality="image"), limit=1000)
            )
            if not ids:
                fail(f"No model matches '{glob}'; `zooscout models ls` shows those there are.", status=Exit.NOT_FOUND)
            for ident, model in models.by_ids(session, PROJECT, ids).items():
                found[ident] = ModelCard.from_json(model.card)
        return list(found.values()), row.id, row.name


def _data(context: WorkerContext, dataset_id: str, recipe: "Recipe", bars: Progress) -> "Sets":
    from service.compute.finetuning import TooFewImages, sets
    from service.datasets.manifest import read_manifest

    bar = bars.add_task("reading images", total=None)
    try:
        return sets(
            read_manifest(context.manifest_path(PROJECT, dataset_id)),
            lambda value: context.blobs.path(PROJECT, value.hex()).read_bytes(),
            recipe,
            look=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    except TooFewImages as error:
        fail(f"The dataset cannot be fine-tuned on: {error}.")
    finally:
        bars.remove_task(bar)


def _measured(
    context: WorkerContext,
    dataset_id: str,
    card: ModelCard,
    data: "Sets",
    recipe: "Recipe",
    bars: Progress,
    left: Callable[[], None],
    budget: float | None,
) -> Measured:
    from service.compute.finetuning import TooFewImages, measure
    from service.compute.training import Diverged
    from zoo.errors import ZooError

    known = _known(context, dataset_id, card, recipe)
    if known is not None:
        return Measured(card.name, known.accuracy, known.interval, outcome_id=known.id, measured_before=True)
    bar = bars.add_task(card.name, total=None)

    def look(done: int, total: int) -> None:
        bars.update(bar, completed=done, total=total)
        left()

    try:
        found = measure(card, data, recipe, cache_dir=context.settings.weights_cache, look=look)
    except BudgetSpent:
        return Measured(card.name, error=f"not measured: the budget of {budget:g} s was spent")
    except (ZooError, Diverged, TooFewImages) as error:
        return Measured(card.name, error=str(error))
    finally:
        bars.remove_task(bar)
    with context.database.write() as session:
        recorded = outcomes.record(
            session,
            PROJECT,
            [
                OutcomeCreate(
                    dataset=dataset_id,
                    model=card.name,
                    accuracy=found.accuracy,
                    n_test=found.n_test,
                    recipe=recipe.id,
                    source=SOURCE,
                )
            ],
            weights_sha256=found.weights_sha256,
            extractor_id=found.extractor_id,
        ).items[0]
    return Measured(
        card.name,
        found.accuracy,
        recorded.interval,
        found.probe,
        found.chosen.rate,
        found.chosen.epoch,
        round(found.seconds, 1),
        recorded.id,
    )


def _known(context: WorkerContext, dataset_id: str, card: ModelCard, recipe: "Recipe") -> OutcomeView | None:
    """What this very recipe gave before for the weights that the card is pinned to."""
    with context.database.read() as session:
        page = outcomes.list_outcomes(session, PROJECT, dataset=dataset_id, model=card.name, recipe=recipe.id, limit=1)
    of_these = [o for o in page.items if o.source == SOURCE and o.weights_sha256 == card.weights.sha256]
    return of_these[0] if of_these else None


def _print(name: str, recipe: "Recipe", data: "Sets", results: list[Measured]) -> None:
    table = Table(
        title=f"{name}: fine-tuned on {len(data.train)} images, measured on {len(data.test)} ({data.tested_on})",
        caption=f"Recipe {recipe.id}: {recipe.side} px, {recipe.epochs} epochs, learning rates "
        f"{', '.join(f'{rate:g}' for rate in recipe.rates)}. probe: a ridge head alone, on all training images."
        + (" A sample of the dataset's images was used." if data.sampled else ""),
        title_justify="left",
        caption_justify="left",
    )
    for column in ("model", "accuracy", "90 % interval", "probe", "rate", "epoch", "seconds"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for found in results:
        table.add_row(found.model, *_cells(found))
    out.print(table)
    for found in results:
        if found.error is not None:
            err.print(f"[red]failed[/] {found.model}: {found.error}", markup=True, soft_wrap=True)


def _cells(found: Measured) -> list[str]:
    if found.accuracy is None or found.interval is None:
        return ["–"]
    shown: list[Any] = [f"{found.accuracy:.1%}", "{:.1%} – {:.1%}".format(*found.interval)]
    if found.measured_before:
        return [*shown, "", "", "", "measured before"]
    return [*shown, f"{found.probe:.1%}", f"{found.learning_rate:g}", str(found.epoch), f"{found.seconds:.0f}"]


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
