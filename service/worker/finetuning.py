"""Fine-tunes models on a dataset, one after the other, and records what each reaches as an outcome."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from service.core.errors import Cancelled
from service.datasets import service as datasets
from service.datasets.manifest import read_manifest
from service.executors.protocol import Watch
from service.finetunings.schemas import FinetuningPlan, FinetuningResult
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.models import repository as models
from service.outcomes import service as outcomes
from service.outcomes.schemas import OutcomeCreate, OutcomeView
from service.worker.context import WorkerContext
from zoo.catalog import ModelCard

if TYPE_CHECKING:
    from service.compute.finetuning import Sets
    from service.compute.training import Recipe

SOURCE = "zooscout finetune"
Look = Callable[[int, int], None]


class BudgetSpent(Exception):
    """The seconds are over."""


def finetune(context: WorkerContext, task: Task, watch: Watch, /) -> None:
    began = time.monotonic()
    from service.compute.finetuning import TooFewImages

    asked = task.payload
    with context.database.write() as session:
        jobs.hold(session, task)
        dataset = datasets.sealed(session, task.project_id, asked["dataset_id"])
        rows = models.by_ids(session, task.project_id, asked["model_ids"])
        cards = [ModelCard.from_json(rows[ident].card) for ident in asked["model_ids"] if ident in rows]
    recipe = recipe_named(asked["recipe"])
    said: dict[str, Any] = {"results": []}

    def look(stage: str, done: int, total: int) -> None:
        if watch.cancelled():
            raise Cancelled("Fine-tuning was told to stop.")
        said["progress"] = {"stage": stage, "done": done, "total": total}
        watch.report(dict(said))

    try:
        data = read_sets(context, task.project_id, dataset.id, recipe, lambda *at: look("reading images", *at))
    except TooFewImages as error:
        problem = {"type": "/problems/invalid-request", "title": "The dataset cannot be fine-tuned on", "status": 422}
        _end(context, task, said, TaskState.FAILED, {**problem, "detail": f"{error}."})
        return
    said["plan"] = plan_of(data, recipe).model_dump()
    results: list[FinetuningResult] = []
    for card in cards:
        left = within(began, asked["budget_seconds"])

        def trained(done: int, total: int, card: ModelCard = card, left: Callable[[], None] = left) -> None:
            look(card.name, done, total)
            left()

        def hold(session: Session) -> None:
            jobs.hold(session, task)

        results.append(measured(context, task.project_id, dataset.id, card, data, recipe, trained, hold=hold))
        said["results"] = [result.model_dump() for result in results]
    said["results"] = [result.model_dump() for result in best_first(results)]
    said["progress"] = {}
    watch.report(dict(said))
    _end(context, task, said, TaskState.DONE, None)


def _end(
    context: WorkerContext, task: Task, said: Mapping[str, Any], state: TaskState, error: Mapping[str, Any] | None
) -> None:
    with context.database.write() as session:
        jobs.renew(session, task, lease_seconds=context.settings.worker.lease_seconds, progress=said)
        jobs.finish(session, task, state=state, error=error)


def recipe_named(name: str, /) -> "Recipe":
    from service.compute import finetuning

    return {"fast": finetuning.FAST, "default": finetuning.DEFAULT}[name]


def plan_of(data: "Sets", recipe: "Recipe", /) -> FinetuningPlan:
    return FinetuningPlan(
        recipe=asdict(recipe),
        train=len(data.train),
        test=len(data.test),
        tested_on=data.tested_on,
        sampled=data.sampled,
    )


def best_first(results: list[FinetuningResult], /) -> list[FinetuningResult]:
    return sorted(results, key=lambda r: -1.0 if r.accuracy is None else r.accuracy, reverse=True)


def within(began: float, budget: float | None, /) -> Callable[[], None]:
    def left() -> None:
        if budget is not None and time.monotonic() - began > budget:
            raise BudgetSpent(f"not measured: the budget of {budget:g} s was spent")

    return left


def read_sets(context: WorkerContext, project_id: str, dataset_id: str, recipe: "Recipe", look: Look, /) -> "Sets":
    """Raises TooFewImages."""
    from service.compute.finetuning import sets

    return sets(
        read_manifest(context.manifest_path(project_id, dataset_id)),
        lambda value: context.blobs.path(project_id, value.hex()).read_bytes(),
        recipe,
        look=look,
    )


def measured(
    context: WorkerContext,
    project_id: str,
    dataset_id: str,
    card: ModelCard,
    data: "Sets",
    recipe: "Recipe",
    look: Look,
    /,
    *,
    hold: Callable[[Session], None] = lambda _session: None,
) -> FinetuningResult:
    """What the model reaches, recorded; what `look` raises ends the work. `hold` is asked before it is recorded."""
    from torch import OutOfMemoryError

    from service.compute.finetuning import TooFewImages, measure
    from service.compute.training import Diverged
    from service.worker.workplace import device_of
    from zoo.errors import ZooError

    known = _known(context, project_id, dataset_id, card, recipe)
    if known is not None:
        return FinetuningResult(
            model=card.name,
            accuracy=known.accuracy,
            interval=known.interval,
            outcome_id=known.id,
            measured_before=True,
        )
    settings = context.settings
    try:
        found = measure(card, data, recipe, device=device_of(settings), cache_dir=settings.weights_cache, look=look)
    except (BudgetSpent, ZooError, Diverged, TooFewImages) as error:
        return FinetuningResult(model=card.name, error=str(error))
    except OutOfMemoryError:
        return FinetuningResult(model=card.name, error="the GPU's memory does not hold it and what it is trained on")
    outcome = OutcomeCreate(
        dataset=dataset_id,
        model=card.name,
        accuracy=found.accuracy,
        n_test=found.n_test,
        recipe=recipe.id,
        source=SOURCE,
    )
    with context.database.write() as session:
        hold(session)
        recorded = outcomes.record(
            session, project_id, [outcome], weights_sha256=found.weights_sha256, extractor_id=found.extractor_id
        ).items[0]
    return FinetuningResult(
        model=card.name,
        accuracy=found.accuracy,
        interval=recorded.interval,
        probe=found.probe,
        learning_rate=found.chosen.rate,
        epoch=found.chosen.epoch,
        seconds=round(found.seconds, 1),
        outcome_id=recorded.id,
    )


def _known(
    context: WorkerContext, project_id: str, dataset_id: str, card: ModelCard, recipe: "Recipe"
) -> OutcomeView | None:
    """What this very recipe gave before for the weights that the card is pinned to."""
    with context.database.read() as session:
        page = outcomes.list_outcomes(
            session, project_id, dataset=dataset_id, model=card.name, recipe=recipe.id, limit=1
        )
    of_these = [o for o in page.items if o.source == SOURCE and o.weights_sha256 == card.weights.sha256]
    return of_these[0] if of_these else None
