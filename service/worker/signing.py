"""Looks at a few hundred images of a dataset with one small model, and finds the datasets that are like it."""

import hashlib
import time

import numpy as np

from service.datasets import repository as datasets
from service.datasets.manifest import read_manifest
from service.embeddings.precision import extractor_ids
from service.embeddings.protocol import StoreKey
from service.executors.protocol import Watch
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.models import repository as models
from service.rankings.planner import split_to_score
from service.rankings.results import Failed
from service.rankings.sampling import sample
from service.recommendations.similar import closeness, signature
from service.worker.context import WorkerContext
from service.worker.handlers import images_of
from service.worker.inspecting import embedded
from zoo.catalog import ModelCard

KNOWN = 1_000
SHOWN = 10


def signature_id(extractor_id: str, /) -> str:
    """Signatures lie among the embeddings, as rows of an extractor of their own; a dataset's fingerprint names each."""
    return hashlib.sha256(f"zooscout signature 1 {extractor_id}".encode()).hexdigest()


def sign_dataset(context: WorkerContext, task: Task, watch: Watch, /) -> None:
    start = time.perf_counter()
    most = int(task.payload["images"])
    with context.database.read() as session:
        dataset = datasets.get(session, task.project_id, task.subject_id)
        model = models.get(session, task.project_id, task.payload["model"])
        ids = [ident for ident, state in datasets.states(session, task.project_id).items() if state == "sealed"]
        pinned = [] if model.weights_sha256 is None else [(ModelCard.from_json(model.card), model.weights_sha256)]
        extractor = next(iter(extractor_ids(session, task.project_id, pinned)), None)
        known = list(datasets.by_ids(session, task.project_id, ids).values())[-KNOWN:]
    hashes, labels = _sampled(context, task, dataset.id, most)
    card = ModelCard.from_json(model.card)
    outcome = embedded(context, task, watch, card, extractor, hashes)
    if isinstance(outcome, Failed):
        problem = {"type": "/problems/extraction-failed", "title": "The model gave no features", "status": 422}
        with context.database.write() as session:
            jobs.finish(session, task, state=TaskState.FAILED, error=problem | {"detail": outcome.reason})
        return
    key = StoreKey(task.project_id, outcome.extractor_id)
    signed = StoreKey(task.project_id, signature_id(outcome.extractor_id))
    own = signature(context.store.get(key, hashes), labels)
    by_print = {bytes.fromhex(row.fingerprint): row for row in known if row.fingerprint is not None}
    mine = bytes.fromhex(dataset.fingerprint or "")
    context.store.put(signed, [mine], own[None])
    for name in context.store.missing(signed, list(by_print)):
        theirs, of_theirs = _sampled(context, task, by_print[name].id, most)
        if not context.store.missing(key, theirs):  # what the model has not looked at, it is not asked to
            row = signature(context.store.get(key, theirs), of_theirs)
            context.store.put(signed, [name], row[None])
    lacking = set(context.store.missing(signed, list(by_print)))
    others = [name for name in by_print if name != mine and name not in lacking]
    similar: list[dict[str, object]] = []
    if len(others) > 1:  # of one alone nothing says whether it is near
        found = context.store.search(signed, others, own[None], len(others), metric="l2")
        near = [(others[p], float(v)) for p, v in zip(found.positions[0], found.values[0], strict=True) if p >= 0]
        shares = closeness([distance for _, distance in near])
        similar = [
            {"dataset_id": by_print[name].id, "dataset": by_print[name].name, "similarity": round(share, 4)}
            for (name, _), share in zip(near[:SHOWN], shares, strict=False)
        ]
    result = {
        "model": model.name,
        "images": len(hashes),
        "similar": similar,
        "known": len(others),
        "seconds": round(time.perf_counter() - start, 3),
    }
    watch.report(result)
    with context.database.write() as session:
        jobs.record_progress(session, task.id, result)
        jobs.finish(session, task, state=TaskState.DONE)


def _sampled(
    context: WorkerContext, task: Task, dataset_id: str, most: int
) -> tuple[list[bytes], "np.ndarray[tuple[int, ...], np.dtype[np.int64]]"]:
    manifest = read_manifest(context.manifest_path(task.project_id, dataset_id))
    hashes, labels = images_of(manifest, split_to_score(manifest.splits))
    taken = sample(labels, min(most, len(labels)))
    return [hashes[i] for i in taken], labels[taken]
