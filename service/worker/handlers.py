"""One function a kind of task. What needs torch is imported inside, so that a cached ranking never loads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_never, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from estimators.errors import EstimatorError
from service.compute.reference import ReferenceSet
from service.core.clock import utc_now
from service.core.errors import Conflict
from service.datasets import repository as datasets
from service.datasets.errors import TooCostly
from service.datasets.manifest import Manifest, read_manifest
from service.datasets.names import Split
from service.datasets.service import refuse
from service.datasets.tables import DatasetRow
from service.executors.protocol import Watch
from service.inspections import repository as inspections
from service.jobs import repository as jobs
from service.jobs.fate import Cause, decide
from service.jobs.model import Counted, Task, TaskKind, TaskState
from service.models import repository as models
from service.models.schemas import ModelFilter
from service.models.service import blame
from service.prescores import service as prescores
from service.prescores.schemas import PrescoreCreate
from service.rankings import racing
from service.rankings import repository as rankings
from service.rankings.pairs import pair_of
from service.rankings.planning import plan, queue_scoring
from service.rankings.race import Likely
from service.rankings.results import Failed, Scored, record
from service.rankings.sampling import sample as nested_sample
from service.rankings.service import close_if_complete
from service.rankings.tables import RankingRow
from service.recommendations.instant import similar_to
from service.recommendations.priors import priors
from service.scoring import repository as scores
from service.scoring.arrays import read_arrays
from service.scoring.errors import BadArrays
from service.worker.context import WorkerContext
from service.worker.prescoring import skipped_for_time
from service.worker.refusals import refusal_problem
from zoo.catalog import SOURCES, ModelCard

WAIT_FOR_SEAL_SECONDS = 0.3
_TOO_MUCH = frozenset({Cause.TOO_COSTLY, Cause.KILLED, Cause.OVERDUE})


def handle(context: WorkerContext, task: Task, watch: Watch, /) -> None:
    match task.kind:
        case TaskKind.INGEST:
            from service.worker.ingesting import ingest_dataset

            ingest_dataset(context, task, watch)
        case TaskKind.PLAN:
            plan_ranking(context, task)
        case TaskKind.EMBED:
            embed_and_score(context, task, watch)
        case TaskKind.RESOLVE:
            resolve_model(context, task)
        case TaskKind.IMPORT:
            import_models(context, task)
        case TaskKind.INSPECT:
            from service.worker.inspecting import inspect_dataset

            inspect_dataset(context, task, watch)
        case TaskKind.SCORE:
            score_features(context, task)
        case TaskKind.FINETUNE:
            from service.worker.finetuning import finetune

            finetune(context, task, watch)
        case TaskKind.SIGN:
            from service.worker.signing import sign_dataset

            sign_dataset(context, task, watch)
        case TaskKind.PRESCORE:
            from service.worker.prescoring import prescore

            prescore(context, task)
        case TaskKind.COLLECT:
            from service.worker.collecting import collect

            collect(context, task)
        case _:
            assert_never(task.kind)


def models_in(task: Task, /) -> int:
    """How many models the task would take with it."""
    return len(task.payload["models"]) if task.kind is TaskKind.EMBED else 0


def give_up(context: WorkerContext, task: Task, reason: str, /, *, cause: Cause | None) -> None:
    """A task that will not be tried again: what waits for it hears why. `cause` is held against what was tried."""
    problem = {"type": "/problems/task-failed", "title": "The work failed", "status": 500, "detail": reason}
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.FAILED, error=problem)
        match task.kind:
            case TaskKind.INGEST:
                row = datasets.find(session, task.project_id, task.subject_id)
                if row is not None and row.state == "checking":
                    refuse(session, row, refusal_problem(TooCostly(reason)) if cause in _TOO_MUCH else problem)
                if task.payload.get("delete_source"):
                    jobs.enqueue_collection(session, task.project_id, uploads=[task.payload["source"]])
            case TaskKind.PLAN | TaskKind.EMBED:
                ranking = rankings.get(session, task.project_id, task.subject_id, lock=True)
                waiting = [e for e in rankings.entries(session, ranking.id) if e.state not in {"done", "failed"}]
                mine = set(task.payload.get("models", [e.model_id for e in waiting]))
                for entry in waiting:
                    if entry.model_id in mine:
                        entry.state, entry.error = "failed", reason
                if cause is not None and models_in(task) == 1:
                    _blame(session, ranking, task.payload["models"][0], reason)
                session.flush()
                close_if_complete(session, ranking, finishing_task=task.id)
            case TaskKind.RESOLVE:
                model = models.find(session, task.project_id, task.subject_id)
                if model is not None:
                    model.state, model.error = "failed", reason
            case TaskKind.INSPECT:
                inspection = inspections.find(session, task.project_id, task.payload["inspection"])
                if inspection is not None:
                    inspection.state, inspection.error, inspection.finished_at = "failed", problem, utc_now()
            case TaskKind.SCORE:
                scoring = scores.get_scoring(session, task.project_id, task.subject_id)
                scoring.state, scoring.error, scoring.finished_at = "failed", problem, utc_now()
                Path(task.payload["source"]).unlink(missing_ok=True)
            case TaskKind.PRESCORE:
                prescores.fail(session, task.project_id, task.subject_id, problem)
            case TaskKind.IMPORT | TaskKind.SIGN | TaskKind.FINETUNE | TaskKind.COLLECT:
                pass
            case _:
                assert_never(task.kind)


def sweep_if_removed(context: WorkerContext, task: Task, /) -> None:
    """What a task stored after its dataset or ranking was removed, no collection has seen: it goes by one more."""
    if task.kind not in {TaskKind.INGEST, TaskKind.EMBED, TaskKind.INSPECT, TaskKind.SIGN}:
        return
    with context.database.write() as session:
        if jobs.exists(session, task.id):
            return
        uploads = [task.payload["source"]] if task.payload.get("delete_source") else []
        jobs.enqueue_collection(session, task.project_id, purge=True, uploads=uploads)


def plan_ranking(context: WorkerContext, task: Task, /) -> None:
    with context.database.read() as session:
        ranking = rankings.get(session, task.project_id, task.subject_id)
        dataset = datasets.get(session, task.project_id, ranking.dataset_id)
        likely = {} if ranking.race is None or dataset.state != "sealed" else _likely(session, ranking, dataset)
    if dataset.state == "checking":
        with context.database.write() as session:
            jobs.release(session, task, delay_seconds=WAIT_FOR_SEAL_SECONDS, refund=True)
        return
    if dataset.state == "refused":
        with context.database.write() as session:
            ranking = rankings.get(session, task.project_id, task.subject_id, lock=True)
            jobs.finish(session, task, state=TaskState.DONE)
            close_if_complete(session, ranking, finishing_task=task.id)
            ranking.error = dataset.problem
        return
    manifest = read_manifest(context.manifest_path(task.project_id, dataset.id))
    sizes = {split: len(manifest.of_split(split)) for split in manifest.splits}
    with context.database.write() as session:
        jobs.hold(session, task)
        ranking = rankings.get(session, task.project_id, task.subject_id, lock=True)
        dataset = datasets.get(session, task.project_id, ranking.dataset_id)
        worker = context.settings.worker
        plan(
            session,
            task,
            ranking,
            dataset,
            sizes,
            models_per_task=worker.models_per_task,
            images_per_task=worker.images_per_task,
            likely=likely,
        )


def _likely(session: Session, ranking: RankingRow, dataset: DatasetRow, /) -> dict[str, Likely]:
    """What is expected of a race's models before they have seen an image."""
    rows = models.briefs(session, ranking.project_id, [e.model_id for e in rankings.entries(session, ranking.id)])
    similar, _ = similar_to(session, dataset)
    found = priors(session, ranking.project_id, dataset, list(rows.values()), similar)
    priors_of = {ident: found[row.name] for ident, row in rows.items() if row.name in found}
    return {ident: Likely(prior.value, prior.stderr) for ident, prior in priors_of.items()}


def embed_and_score(context: WorkerContext, task: Task, watch: Watch, /) -> None:
    """Embeds what is missing for a group of models and records each model's scores as soon as it has them."""
    model_ids: list[str] = list(task.payload["models"])
    if task.attempts > 1 and len(model_ids) > 1:
        _one_task_a_model(context, task, model_ids)
        return
    if task.payload.get("prescore") and skipped_for_time(context, task, model_ids):
        return
    from service.compute.group import compute_group
    from service.worker.workplace import workplace

    sample: int | None = task.payload.get("sample")
    with context.database.write() as session:
        jobs.hold(session, task)
        ranking = rankings.get(session, task.project_id, task.subject_id, lock=sample is not None)
        if racing.out_of_time(session, ranking, model_ids):
            session.flush()
            jobs.finish(session, task, state=TaskState.DONE)
            close_if_complete(session, ranking, finishing_task=task.id)
            return
        dataset = datasets.get(session, task.project_id, ranking.dataset_id)
        entries = {e.model_id: e for e in rankings.entries(session, ranking.id) if e.state not in {"done", "failed"}}
        rows = models.by_ids(session, task.project_id, [ident for ident in model_ids if ident in entries])
        rankings.set_entries(session, ranking.id, list(rows), state="running")
    fingerprint = dataset.fingerprint
    if fingerprint is None or ranking.split is None:
        raise Conflict(f"Ranking {ranking.id} was planned before its dataset was sealed.")
    manifest = read_manifest(context.manifest_path(task.project_id, dataset.id))
    hashes, labels = images_of(manifest, cast(Split, ranking.split))
    if sample is not None:
        taken = nested_sample(labels, sample)
        hashes, labels = [hashes[i] for i in taken], labels[taken]

    def lacking(extractor: str) -> list[str]:
        """What one that finished meanwhile, or an earlier reference set, has not left a score of."""
        pair = pair_of(ranking, fingerprint, extractor, sample=sample)
        with context.database.read() as session:
            known = scores.current_scores(session, task.project_id, {extractor: pair}, ranking.estimators)[extractor]
        return [name for name in pair.evidence_ids(ranking.estimators) if name not in known]

    again: dict[str, float] = {}
    tries = int(task.payload.get("tries", 0)) + 1

    def done(model_id: str, outcome: Scored | Failed) -> None:
        fate = None
        if isinstance(outcome, Failed):
            fate = decide(outcome.cause, attempts=tries, max_attempts=context.settings.worker.max_attempts)
        with context.database.write() as session:
            jobs.hold(session, task)
            held = rankings.get(session, task.project_id, task.subject_id)
            if isinstance(outcome, Failed) and fate is not None:
                if fate.after_seconds is not None:
                    again[model_id] = fate.after_seconds
                    rankings.set_entries(session, held.id, [model_id], state="waiting", error=outcome.reason)
                    return
                if fate.blamed:
                    _blame(session, held, model_id, outcome.reason)
            record(session, held, model_id, outcome, fingerprint=fingerprint, sample=sample)

    last: Mapping[str, Any] = {}

    def report(progress: Mapping[str, Any]) -> None:
        nonlocal last
        last = progress
        watch.report(progress)

    counts = compute_group(
        {ident: ModelCard.from_json(rows[ident].card) for ident in model_ids if ident in rows},
        hashes,
        labels,
        _reference_set(context, ranking),
        known_as={ident: known for ident in rows if (known := entries[ident].extractor_id) is not None},
        lacking=lacking,
        shards=task.payload.get("shards", 1),
        shard=task.payload.get("shard"),
        at=workplace(context, task.project_id),
        report=report,
        cancelled=watch.cancelled,
        done=done,
    )
    with context.database.write() as session:
        ranking = rankings.get(session, task.project_id, task.subject_id, lock=True)
        for model_id, delay in again.items():
            _queue_alone(session, task, model_id, tries=tries, delay_seconds=delay)
        if "shard" in task.payload:
            queue_scoring(session, task, ranking)
        for label, found in (("store", counts.stored), ("computed", counts.computed)):
            jobs.count(session, Counted.EMBEDDINGS, label=label, by=found)
        jobs.record_progress(session, task.id, dict(last))  # whoever sees the ranking done sees all that was embedded
        jobs.finish(session, task, state=TaskState.DONE)
        close_if_complete(session, ranking, finishing_task=task.id)


def _blame(session: Session, ranking: RankingRow, model_id: str, reason: str) -> None:
    row = models.find(session, ranking.project_id, model_id)
    fingerprint = datasets.get(session, ranking.project_id, ranking.dataset_id).fingerprint
    if row is not None and fingerprint is not None:
        blame(session, row, fingerprint, reason)


def _reference_set(context: WorkerContext, ranking: RankingRow) -> ReferenceSet | None:
    """Every image of the ranking's reference set once, in the order of the content hashes."""
    if ranking.reference_dataset_id is None or ranking.reference_fingerprint is None:
        return None
    manifest = read_manifest(context.manifest_path(ranking.project_id, ranking.reference_dataset_id))
    return ReferenceSet(ranking.reference_fingerprint, sorted({row.tobytes() for row in manifest.content_hashes}))


def images_of(manifest: Manifest, split: Split, /) -> tuple[list[bytes], npt.NDArray[np.int64]]:
    """Content hashes, in their order, and labels of one split: the blocks of every model then pair up."""
    part = manifest.of_split(split)
    return [row.tobytes() for row in part.content_hashes], part.labels


def _one_task_a_model(context: WorkerContext, task: Task, model_ids: list[str]) -> None:
    """The task died without an answer once: alone, only the model that kills its worker fails."""
    with context.database.write() as session:
        for model_id in model_ids:
            _queue_alone(session, task, model_id)
        jobs.finish(session, task, state=TaskState.DONE)


def _queue_alone(session: Session, task: Task, model_id: str, /, *, tries: int = 0, delay_seconds: float = 0.0) -> None:
    per_model = int(task.payload.get("images", 0)) // len(task.payload["models"])
    jobs.enqueue(
        session,
        project_id=task.project_id,
        kind=TaskKind.EMBED,
        subject_id=task.subject_id,
        payload=dict(task.payload) | {"models": [model_id], "images": per_model, "tries": tries},
        priority=jobs.priority_of(session, task.id),
        delay_seconds=delay_seconds,
    )


def resolve_model(context: WorkerContext, task: Task, /) -> None:
    """Fetches a model's weights, proves that they fit and pins what was found."""
    from service.compute.catalog import prove
    from zoo.errors import HubUnreachable, ZooError

    with context.database.read() as session:
        card = ModelCard.from_json(models.get(session, task.project_id, task.subject_id).card)
    try:
        proven, params = prove(card, cache_dir=context.settings.weights_cache)
    except ZooError as error:
        if isinstance(error, HubUnreachable):
            raise  # may pass
        with context.database.write() as session:
            jobs.finish(session, task, state=TaskState.DONE)
            row = models.get(session, task.project_id, task.subject_id)
            row.state, row.error = "failed", f"{type(error).__name__}: {error}"
        return
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)
        models.pin(session, models.get(session, task.project_id, task.subject_id), proven, params=params)


def score_features(context: WorkerContext, task: Task, /) -> None:
    """Scores features that a user brought; the file goes with the answer."""
    from service.compute.own_scores import score_arrays

    source = Path(task.payload["source"])
    with context.database.read() as session:
        names = list(scores.get_scoring(session, task.project_id, task.subject_id).estimators)
    found: dict[str, Any] = {}
    error: dict[str, Any] | None = None
    try:
        found = score_arrays(read_arrays(source, max_bytes=context.settings.scoring.max_array_bytes), names)
    except (BadArrays, EstimatorError) as refusal:
        error = {"type": "/problems/bad-arrays", "title": "The arrays cannot be scored", "detail": str(refusal)}
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)
        row = scores.get_scoring(session, task.project_id, task.subject_id)
        row.state, row.scores, row.error = ("failed" if error else "done"), found, error
        row.finished_at = utc_now()
    source.unlink(missing_ok=True)


def import_models(context: WorkerContext, task: Task, /) -> None:
    from service.compute.catalog import import_registry

    result = import_registry(
        context.database, task.project_id, source=task.payload["source"], name_glob=task.payload["filter"]
    )
    with context.database.write() as session:
        if task.payload.get("prescore"):
            library = SOURCES[task.payload["source"]].library
            imported = ModelFilter(library=library, name=task.payload["filter"])
            asked = prescores.ask(session, task.project_id, PrescoreCreate(models=imported, new=True))
            result |= {"prescore": asked.id}
        jobs.renew(session, task, lease_seconds=context.settings.worker.lease_seconds, progress=result)
        jobs.finish(session, task, state=TaskState.DONE)
