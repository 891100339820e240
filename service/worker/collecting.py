"""Removes the files that no row needs any more: images, rows of segments, manifests, stray uploads."""

import time
from pathlib import Path

import numpy as np

from service.core.ids import new_id
from service.datasets import repository as datasets
from service.datasets.manifest import read_manifest
from service.embeddings import repository as embeddings
from service.embeddings.precision import extractor_ids
from service.embeddings.repository import SegmentInfo
from service.embeddings.segment import Segment, write_segment
from service.embeddings.store import segment_files
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.models import repository as models
from service.rankings import repository as rankings
from service.worker.context import WorkerContext
from zoo.catalog import ModelCard

WAIT_FOR_UPLOADS_SECONDS = 1.0
CLOCK_STEP_SECONDS = 0.02  # a file's time may lag this far behind the clock


def collect(context: WorkerContext, task: Task, /) -> None:
    """One collection. A purge has no grace period, so it waits until no dataset is being taken in.

    Files touched after the tables were read stay in any case: they may belong to a dataset that is not in them yet.
    """
    project = task.project_id
    purge = bool(task.payload.get("purge"))
    now = time.time()
    usual_horizon = now - context.settings.store.grace_seconds
    horizon = now if purge else usual_horizon
    if purge:
        time.sleep(CLOCK_STEP_SECONDS)
    with context.database.read() as session:
        states = datasets.states(session, project)
        reading = {Path(source).absolute() for source in jobs.open_sources(session)}
        pinned = [(ModelCard.from_json(card), sha) for card, sha in models.pinned_cards(session, project)]
        extractors = set(extractor_ids(session, project, pinned)) | rankings.extractors_in_use(session, project)
        segments = embeddings.all_segments(session, project)
    if purge and "checking" in states.values():
        with context.database.write() as session:
            jobs.release(session, task, delay_seconds=WAIT_FOR_UPLOADS_SECONDS, refund=True)
        return
    needed: set[bytes] = set()
    for dataset_id in (ident for ident, state in states.items() if state == "sealed"):
        manifest = read_manifest(context.manifest_path(project, dataset_id))
        needed.update(row.tobytes() for row in manifest.content_hashes)
    for segment in segments:
        _collect_segment(context, segment, needed if segment.key.extractor_id in extractors else set(), horizon)
    context.blobs.collect(project, {value.hex() for value in needed}, older_than_seconds=time.time() - horizon)
    for path in _older(context.settings.manifest_root / project, horizon):
        if states.get(path.stem) != "sealed":
            path.unlink(missing_ok=True)
    for path in [*_older(context.settings.upload_root, usual_horizon), *map(Path, task.payload.get("uploads", ()))]:
        if path.absolute() not in reading:
            path.unlink(missing_ok=True)
    for path in _older(context.settings.segment_root / project, usual_horizon):
        with context.database.read() as session:
            if not embeddings.segment_ids(session, [path.name.partition(".")[0]]):
                path.unlink(missing_ok=True)
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)


def _collect_segment(context: WorkerContext, info: SegmentInfo, needed: set[bytes], horizon: float, /) -> None:
    """Replaces a segment by one without the rows that nobody needs, or by none."""
    root = context.settings.segment_root
    files = segment_files(root, info.key, info.id)
    if not files.hashes.exists() or files.hashes.stat().st_mtime > horizon:
        return
    data = files.hashes.read_bytes()
    hashes = [data[i : i + 32] for i in range(0, len(data), 32)]
    keep = [i for i, value in enumerate(hashes) if value in needed]
    if len(keep) == len(hashes):
        return
    replacement = new_id("seg")
    written = None
    if keep:
        rows = Segment(files, n_rows=info.n_rows, dim=info.dim).rows(np.array(keep, dtype=np.int64))
        written = write_segment(segment_files(root, info.key, replacement), [hashes[i] for i in keep], rows)
    with context.database.write() as session:
        if written is not None:
            embeddings.add_segment(session, replacement, info.key, written)
        embeddings.delete_segments(session, [info.id])
    files.vectors.unlink(missing_ok=True)
    files.hashes.unlink(missing_ok=True)


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
