"""Removes the files that no row needs any more: images, rows of segments, manifests, stray uploads."""

import os
import time
from pathlib import Path

from service.datasets import repository as datasets
from service.datasets import thumbnails
from service.datasets.manifest import read_manifest
from service.embeddings.precision import extractor_ids
from service.embeddings.upkeep import sweep
from service.idempotency import service as idempotency
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.models import repository as models
from service.rankings import repository as rankings
from service.worker.context import WorkerContext
from service.worker.signing import signature_id
from zoo.catalog import ModelCard

WAIT_FOR_UPLOADS_SECONDS = 1.0
CLOCK_STEP_SECONDS = 0.02  # a file's time may lag this far behind the clock


def collect(context: WorkerContext, task: Task, /) -> None:
    """One collection. A purge has no grace period, so it waits until no dataset is being taken in.

    Files touched after the tables were read stay in any case: they may belong to a dataset that is not in them yet.
    """
    project = task.project_id
    purge = bool(task.payload.get("purge"))
    now = _now_at(context.settings.data_dir)
    usual_horizon = now - context.settings.store.grace_seconds
    horizon = now if purge else usual_horizon
    if purge:
        time.sleep(CLOCK_STEP_SECONDS)
    with context.database.read() as session:
        states = datasets.states(session, project)
        reading = {Path(source).absolute() for source in jobs.open_sources(session)}
        pinned = [(ModelCard.from_json(card), sha) for card, sha in models.pinned_cards(session, project)]
        extractors = set(extractor_ids(session, project, pinned)) | rankings.extractors_in_use(session, project)
        prints = [row.fingerprint for row in datasets.by_ids(session, project, list(states)).values()]
    signatures = {signature_id(extractor) for extractor in extractors}
    if purge and "checking" in states.values():
        with context.database.write() as session:
            jobs.release(session, task, delay_seconds=WAIT_FOR_UPLOADS_SECONDS, refund=True)
        return
    signed = {bytes.fromhex(fingerprint) for fingerprint in prints if fingerprint is not None}
    needed: set[bytes] = set()
    for dataset_id in (ident for ident, state in states.items() if state == "sealed"):
        manifest = read_manifest(context.manifest_path(project, dataset_id))
        needed.update(row.tobytes() for row in manifest.content_hashes)
    sweep(
        context.store,
        context.database,
        project,
        lambda extractor: needed if extractor in extractors else signed if extractor in signatures else set(),
        horizon=horizon,
        stray_horizon=usual_horizon,
    )
    context.store.forget_derived(project, horizon=horizon)
    names = {value.hex() for value in needed}
    context.blobs.collect(project, names, older_than_seconds=time.time() - horizon)
    thumbnails.collect(context.settings.thumbnail_root, project, names, horizon=horizon)
    for path in _older(context.settings.manifest_root / project, horizon):
        if states.get(path.stem) != "sealed":
            path.unlink(missing_ok=True)
    for path in _older(context.settings.moments_root / project, horizon):
        path.unlink(missing_ok=True)
    for path in [*_older(context.settings.upload_root, usual_horizon), *map(Path, task.payload.get("uploads", ()))]:
        if path.absolute() not in reading:
            path.unlink(missing_ok=True)
    with context.database.write() as session:
        idempotency.forget(session, project, older_than_seconds=context.settings.server.keep_answers_seconds)
        jobs.finish(session, task, state=TaskState.DONE)


def _now_at(folder: Path) -> float:
    """By the clock that the files' times come from: this machine's may be minutes off. Takes no room on a full disk."""
    folder.mkdir(parents=True, exist_ok=True)  # nothing has been written yet
    os.utime(folder)
    return folder.stat().st_mtime


def _older(root: Path, horizon: float) -> list[Path]:
    """Files that were last touched before `horizon`. Others come and go meanwhile."""
    found = []
    for path in root.rglob("*"):
        try:
            if path.is_file() and path.stat().st_mtime <= horizon:
                found.append(path)
        except FileNotFoundError:
            continue
    return found
