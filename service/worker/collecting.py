"""Removes the files that no row needs any more: images, rows of segments, manifests, stray uploads."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from service.core.ids import new_id
from service.datasets import repository as datasets
from service.datasets.manifest import read_manifest
from service.embeddings import repository as embeddings
from service.embeddings.repository import SegmentInfo
from service.embeddings.segment import Segment, write_segment
from service.embeddings.store import segment_files
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.models import repository as models
from service.rankings import repository as rankings
from service.worker.context import WorkerContext
from zoo.catalog import ModelCard, extractor_id

WAIT_FOR_UPLOADS_SECONDS = 1.0


def collect(context: WorkerContext, task: Task, /) -> None:
    """One collection. A purge ignores the grace period, so it waits until no dataset is being taken in."""
    project = task.project_id
    purge = bool(task.payload.get("purge"))
    grace = 0.0 if purge else context.settings.store.grace_seconds
    with context.database.read() as session:
        kept = set(datasets.ids_in_project(session, project))
        checking = datasets.being_checked(session, project)
        extractors = {
            extractor_id(ModelCard.from_json(card), weights_sha256=sha)
            for card, sha in models.pinned_cards(session, project)
        } | rankings.extractors_in_use(session, project)
        segments = embeddings.all_segments(session, project)
    if purge and checking:
        with context.database.write() as session:
            jobs.release(session, task, delay_seconds=WAIT_FOR_UPLOADS_SECONDS, refund=True)
        return
    needed: set[bytes] = set()
    for dataset_id in kept - checking:
        manifest = read_manifest(context.manifest_path(project, dataset_id))
        needed.update(row.tobytes() for row in manifest.content_hashes)
    for segment in segments:
        _collect_segment(context, segment, needed if segment.key.extractor_id in extractors else set(), grace=grace)
    context.blobs.collect(project, {value.hex() for value in needed}, older_than_seconds=grace)
    for path in _older(context.settings.manifest_root / project, grace):
        if path.stem not in kept:
            path.unlink(missing_ok=True)
    for path in _older(context.settings.upload_root, context.settings.store.grace_seconds):
        path.unlink(missing_ok=True)
    for path in _older(context.settings.segment_root / project, context.settings.store.grace_seconds):
        with context.database.read() as session:
            if not embeddings.segment_ids(session, [path.name.partition(".")[0]]):
                path.unlink(missing_ok=True)
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)


def _collect_segment(context: WorkerContext, info: SegmentInfo, needed: set[bytes], /, *, grace: float) -> None:
    """Replaces a segment by one without the rows that nobody needs, or by none."""
    root = context.settings.segment_root
    files = segment_files(root, info.key, info.id)
    if not files.hashes.exists() or time.time() - files.hashes.stat().st_mtime < grace:
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


def _older(root: Path, seconds: float) -> Iterator[Path]:
    limit = time.time() - seconds
    for path in root.rglob("*"):
        if path.is_file() and path.stat().st_mtime <= limit:
            yield path
