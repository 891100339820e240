"""Inspects a dataset: embeds every split by one model where it has not, then looks at what lies near what."""

from typing import Any

import numpy as np

from service.core.clock import utc_now
from service.datasets import repository as datasets
from service.datasets.manifest import read_manifest
from service.embeddings import repository as embeddings
from service.embeddings.model import StoreKey
from service.embeddings.precision import extractor_ids
from service.executors.protocol import Watch
from service.inspections import findings, repository
from service.inspections.images import distinct_images
from service.inspections.nearness import Embedded
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.keys.repository import lock_project
from service.models import repository as models
from service.rankings.results import Failed, Scored
from service.worker.context import WorkerContext
from zoo.catalog import ModelCard


def inspect_dataset(context: WorkerContext, task: Task, watch: Watch, /) -> None:
    with context.database.write() as session:
        jobs.hold(session, task)
        inspection = repository.get(session, task.project_id, task.payload["inspection"])
        dataset = datasets.get(session, task.project_id, inspection.dataset_id)
        model = models.get(session, task.project_id, inspection.model_id)
        inspection.state = "running"
        card = ModelCard.from_json(model.card)
        pinned = [] if card.weights.sha256 is None else [(card, card.weights.sha256)]
        extractor = next(iter(extractor_ids(session, task.project_id, pinned)), None)
    images = distinct_images(read_manifest(context.manifest_path(task.project_id, dataset.id)))
    outcome = embedded(context, task, watch, card, extractor, images.hashes)
    if isinstance(outcome, Failed):
        problem = {"type": "/problems/extraction-failed", "title": "The model gave no features", "status": 422}
        end(context, task, error={**problem, "detail": outcome.reason})
        return
    with context.database.write() as session:
        jobs.hold(session, task)
        lock_project(session, task.project_id)
        row = models.get(session, task.project_id, model.id)
        if row.weights_sha256 is None or row.params is None or row.state != "ready":
            models.pin(session, row, outcome.card, params=outcome.params)
        embeddings.record_extractor(session, task.project_id, outcome.extractor_id, identity=outcome.identity)
    watch.report({"stage": "comparing images", "images_embedded": len(images), "images_to_embed": len(images)})
    key = StoreKey(task.project_id, outcome.extractor_id)
    result = findings.inspect(Embedded(context.store, key, images.hashes, watch.cancelled), images)
    end(context, task, result=result, extractor_id=outcome.extractor_id)


def embedded(
    context: WorkerContext, task: Task, watch: Watch, card: ModelCard, extractor: str | None, hashes: list[bytes], /
) -> Scored | Failed:
    """A ranking of one model by no estimator: what is stored already is not embedded again."""
    from service.compute.group import compute_group
    from service.worker.workplace import workplace

    outcomes: list[Scored | Failed] = []
    compute_group(
        {"model": card},
        hashes,
        np.zeros(len(hashes), dtype=np.int64),
        None,
        known_as={} if extractor is None else {"model": extractor},
        lacking=lambda _extractor: (),
        at=workplace(context, task.project_id),
        report=watch.report,
        cancelled=watch.cancelled,
        done=lambda _model, outcome: outcomes.append(outcome),
    )
    return outcomes[0]


def end(
    context: WorkerContext,
    task: Task,
    /,
    *,
    result: dict[str, Any] | None = None,
    extractor_id: str | None = None,
    error: dict[str, Any] | None = None,
) -> None:
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)
        row = repository.get(session, task.project_id, task.payload["inspection"])
        row.state = "done" if error is None else "failed"
        row.result, row.extractor_id, row.error, row.finished_at = result, extractor_id, error, utc_now()
