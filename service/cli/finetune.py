"""`zooscout finetune`: what a ranking predicts, measured."""

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from service.cli.connection import connected, target
from service.cli.embedded import PROJECT, embedded
from service.cli.exits import Exit
from service.cli.output import err, fail, out, print_json
from service.client.finetunings import Finetuning, FinetuningPlan, FinetuningResult
from service.datasets import repository as dataset_rows
from service.datasets import service as datasets
from service.finetunings.schemas import RecipeName
from service.models import repository as models
from service.models.schemas import ModelFilter
from service.worker.context import WorkerContext
from service.worker.finetuning import best_first, measured, plan_of, read_sets, recipe_named, within
from zoo.catalog import ModelCard

if TYPE_CHECKING:
    from service.compute.finetuning import Sets
    from service.compute.training import Recipe


@dataclass(frozen=True, slots=True)
class Done:
    dataset: str
    plan: FinetuningPlan
    results: list[FinetuningResult]


def finetune(
    dataset: Annotated[str, typer.Argument(help="id or name of a sealed dataset; `zooscout datasets add` makes one")],
    model_globs: Annotated[list[str], typer.Argument(metavar="MODEL", help="names or ids; a glob such as 'resnet*'")],
    recipe: Annotated[
        RecipeName,
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

    Works on the first GPU of this machine, else its CPU; with --url the service does it, after all that someone waits
    for. Exit status: 0 when every model was measured, 6 when some were not, 1 when none.

    Example: zooscout finetune flowers resnet18.a1_in1k 'efficientnet_lite*' --recipe fast
    """
    measure = _here if target()[0] is None else _there
    done = measure(dataset, model_globs, recipe, budget)
    if as_json:
        results = [asdict(result) for result in done.results]
        print_json({"dataset": done.dataset, **asdict(done.plan), "results": results})
    else:
        _print(done)
    failed = sum(result.error is not None for result in done.results)
    if failed:
        raise typer.Exit(Exit.FAILED if failed == len(done.results) else Exit.SOME_FAILED)


def _there(dataset: str, globs: list[str], recipe: RecipeName, budget: float | None) -> Done:
    with connected() as at, _bars() as bars:
        names: list[str] = []
        for glob in globs:
            if not any(sign in glob for sign in "*?["):
                names.append(glob)
                continue
            found = at.client.models(ModelFilter(name=glob, modality="image"), limit=1000).items
            if not found:
                fail(f"No model matches '{glob}'; `zooscout models ls` shows those there are.", status=Exit.NOT_FOUND)
            names += [model.name for model in found]
        asked = at.client.start_finetuning(dataset, names, recipe=recipe, budget_seconds=budget)
        bar = bars.add_task("waiting for a worker", total=None)

        def watch(now: Finetuning) -> None:
            shown = now.progress
            if shown.get("stage"):
                bars.update(bar, description=shown["stage"], completed=shown["done"], total=shown["total"])

        try:
            view = at.settle([asked.id], lambda: at.client.finetuning(asked.id), lambda now: now.ended, watch)
        except KeyboardInterrupt:
            err.print(
                f"It goes on in the service as {asked.id}: the same command takes up what it has measured by then, and "
                f"DELETE /v1/finetunings/{asked.id} stops it.",
                markup=False,
            )
            raise
    if view.state == "failed" or view.plan is None:
        error = view.error or {"title": "It was stopped", "detail": f"its state is {view.state}."}
        fail(f"{error['title']}: {error['detail']}")
    return Done(view.dataset, view.plan, list(view.results))


def _here(dataset: str, globs: list[str], recipe: RecipeName, budget: float | None) -> Done:
    began = time.monotonic()
    with embedded() as context:
        cards, row_id, name = _chosen(context, dataset, globs)
        chosen = recipe_named(recipe)
        left = within(began, budget)
        with _bars() as bars:
            data = _data(context, row_id, chosen, bars)
            results = []
            for card in cards:
                bar = bars.add_task(card.name, total=None)

                def look(done: int, total: int, bar: TaskID = bar) -> None:
                    bars.update(bar, completed=done, total=total)
                    left()

                results.append(measured(context, PROJECT, row_id, card, data, chosen, look))
                bars.remove_task(bar)
    plan = FinetuningPlan(**plan_of(data, chosen).model_dump())
    return Done(name, plan, [FinetuningResult(**result.model_dump()) for result in best_first(results)])


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
    from service.compute.finetuning import TooFewImages

    bar = bars.add_task("reading images", total=None)
    try:
        return read_sets(
            context, PROJECT, dataset_id, recipe, lambda done, total: bars.update(bar, completed=done, total=total)
        )
    except TooFewImages as error:
        fail(f"The dataset cannot be fine-tuned on: {error}.")
    finally:
        bars.remove_task(bar)


def _print(done: Done) -> None:
    plan, recipe = done.plan, done.plan.recipe
    table = Table(
        title=f"{done.dataset}: fine-tuned on {plan.train} images, measured on {plan.test} ({plan.tested_on})",
        caption=f"Recipe {recipe['id']}: {recipe['side']} px, {recipe['epochs']} epochs, learning rates "
        f"{', '.join(f'{rate:g}' for rate in recipe['rates'])}. probe: a ridge head alone, on all training images."
        + (" A sample of the dataset's images was used." if plan.sampled else ""),
        title_justify="left",
        caption_justify="left",
    )
    for column in ("model", "accuracy", "90 % interval", "probe", "rate", "epoch", "seconds"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for found in done.results:
        table.add_row(found.model, *_cells(found))
    out.print(table)
    for found in done.results:
        if found.error is not None:
            err.print(f"[red]failed[/] {found.model}: {found.error}", markup=True, soft_wrap=True)


def _cells(found: FinetuningResult) -> list[str]:
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
