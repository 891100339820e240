"""Plans prescores, and notes what has ended of them."""

from collections.abc import Mapping, Sequence

from service.datasets.manifest import read_manifest
from service.datasets.tables import DatasetRow
from service.embeddings.protocol import StoreKey
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.models.repository import modality_of
from service.models.service import why_skipped
from service.models.tables import ModelRow
from service.prescores import planning, repository
from service.prescores.planning import SCORED_BEFORE, DatasetPlan
from service.prescores.selection import Pair, within
from service.prescores.tables import PrescoreRow
from service.rankings import repository as rankings
from service.rankings.cost import seconds_per_image
from service.rankings.planner import split_to_score
from service.rankings.service import close_if_complete
from service.worker.context import WorkerContext

OUT_OF_TIME = "the budget's time was over before its turn came"


def prescore(context: WorkerContext, task: Task, /) -> None:
    """Asked for once when the prescore is, and once more whenever a ranking of it has ended."""
    with context.database.read() as session:
        row = repository.get(session, task.project_id, task.subject_id)
    if row.state == "queued":
        _plan(context, task, row)
    with context.database.read() as session:
        states = repository.rankings_of(session, row.id)
        after = {
            at.dataset_id: planning.recommended(session, row.project_id, at.dataset_id, ranking=at.ranking_id)
            for at in repository.datasets_of(session, row.id)
            if states.get(at.ranking_id) == "done" and repository.open_pairs(session, row.id, dataset_id=at.dataset_id)
        }
    with context.database.write() as session:
        held = repository.get(session, task.project_id, task.subject_id, lock=True)
        jobs.finish(session, task, state=TaskState.DONE)
        if held.state == "running":
            planning.settle(session, held, after)


def _plan(context: WorkerContext, task: Task, row: PrescoreRow) -> None:
    """What is expensive to find out is found out before anything is written."""
    with context.database.read() as session:
        datasets, models = planning.meant(session, row)
        by_model = planning.extractors(session, row.project_id)
        costs = seconds_per_image(session, row.project_id, models)
    known: dict[str, dict[str, str]] = {}
    before: dict[str, list[str]] = {}
    pairs: list[Pair] = []
    left: list[tuple[Pair, str]] = []
    for dataset in datasets:
        manifest = read_manifest(context.manifest_path(row.project_id, dataset.id))
        split = split_to_score(manifest.splits)
        hashes = [value.tobytes() for value in manifest.of_split(split).content_hashes]
        with context.database.read() as session:
            known[dataset.id] = planning.scored(session, row.project_id, dataset, split, by_model)
            tried = repository.failed_before(session, row.project_id, dataset.id)
            tried |= repository.open_elsewhere(session, row.id, dataset.id)
            before[dataset.id] = planning.recommended(session, row.project_id, dataset.id)
        new = planning.request_of(row).new
        for model in models:
            if modality_of(model) != dataset.modality:
                continue
            reason = SCORED_BEFORE if model.id in known[dataset.id] else why_skipped(model)
            if new and (reason == SCORED_BEFORE or model.id in tried):
                continue
            pair = _pair(context, row, dataset, model, hashes, by_model, costs) if reason is None else None
            if pair is not None:
                pairs.append(pair)
            else:
                left.append((Pair(dataset.id, model.id, 0, 0.0), reason or ""))
    taken, beyond = within(pairs, planning.budget_of(row))
    plans = [
        DatasetPlan(ident, known[ident], before[ident], [pair for pair in taken if pair.dataset_id == ident])
        for ident in dict.fromkeys(pair.dataset_id for pair in taken)
    ]
    with context.database.write() as session:
        jobs.hold(session, task)
        held = repository.get(session, task.project_id, task.subject_id, lock=True)
        if held.state == "queued":
            planning.begin(session, held, plans, [*beyond, *left])


def _pair(
    context: WorkerContext,
    row: PrescoreRow,
    dataset: DatasetRow,
    model: ModelRow,
    hashes: Sequence[bytes],
    by_model: Mapping[str, str],
    costs: Mapping[str, float | None],
) -> Pair:
    extractor = by_model.get(model.id)
    lacks = hashes if extractor is None else context.store.missing(StoreKey(row.project_id, extractor), hashes)
    images = len(set(lacks))
    each = costs.get(model.id)
    return Pair(dataset.id, model.id, images, None if each is None else images * each)


def skipped_for_time(context: WorkerContext, task: Task, model_ids: Sequence[str], /) -> bool:
    """Whether the prescore's time is over; the task's pairs are then skipped, and the task is done."""
    with context.database.write() as session:
        row = repository.find(session, task.project_id, task.payload["prescore"])
        if row is None or not planning.out_of_time(session, row):
            return False
        jobs.hold(session, task)
        ranking = rankings.get(session, task.project_id, task.subject_id, lock=True)
        waiting = {e.model_id: e for e in rankings.entries(session, ranking.id) if e.state not in {"done", "failed"}}
        mine = [ident for ident in model_ids if ident in waiting]
        for ident in mine:
            waiting[ident].state, waiting[ident].error = "failed", f"Skipped, for {OUT_OF_TIME}."
        repository.skip_pairs(session, row.id, ranking.dataset_id, mine, OUT_OF_TIME)
        session.flush()
        jobs.finish(session, task, state=TaskState.DONE)
        close_if_complete(session, ranking, finishing_task=task.id)
    return True
