"""Checks and seals a dataset: an upload, or a version of a sealed one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.core.errors import InvalidRequest
from service.core.ids import new_id
from service.datasets import repository as datasets
from service.datasets import thumbnails
from service.datasets.errors import DatasetRefused
from service.datasets.ingest import IngestResult, ingest, rebuilt
from service.datasets.manifest import Manifest, read_manifest, write_manifest
from service.datasets.schemas import VersionCreate
from service.datasets.service import refuse, seal
from service.datasets.text_tables import TextColumns
from service.datasets.texts import ingest_texts
from service.datasets.versions import Changes, difference, edited, known_rows
from service.executors.protocol import Watch
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.worker.context import WorkerContext
from service.worker.refusals import refusal_problem


def ingest_dataset(context: WorkerContext, task: Task, watch: Watch, /) -> None:
    made_from = [ident for ident in (task.payload.get("parent"), task.payload.get("add")) if ident is not None]
    changes: Mapping[str, Any] | None = None
    try:
        if made_from:
            result, changes = _version(context, task, watch, made_from)
        elif "texts" in task.payload:
            result = _ingest_texts(context, task, watch, Path(task.payload["source"]))
        else:
            result = _ingest(context, task, watch, Path(task.payload["source"]))
    except (DatasetRefused, InvalidRequest) as refusal:
        _refuse(context, task, refusal_problem(refusal))
        return
    path = context.manifest_path(task.project_id, task.subject_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{new_id('tmp')}.part")
    write_manifest(result.manifest, temporary)
    temporary.rename(path)
    if "texts" not in task.payload:
        thumbnails.make(context.settings.thumbnail_root, task.project_id, path, context.blobs)
    with context.database.write() as session:
        # While they are there, no collection takes the images that this one goes on using.
        still_there = datasets.hold_sealed(session, task.project_id, made_from)
        if still_there:
            jobs.finish(session, task, state=TaskState.DONE)
            row = datasets.get(session, task.project_id, task.subject_id)
            seal(
                session,
                row,
                fingerprint=result.manifest.fingerprint,
                n_images=len(result.manifest),
                classes=result.manifest.classes,
                report=result.report.to_json(),
            )
            if changes is not None:
                row.changes = {**(row.changes or {}), **changes}
    if not still_there:
        _refuse(context, task, refusal_problem(_removed()))
        return
    remove_source(task)


def _ingest(context: WorkerContext, task: Task, watch: Watch, source: Path, /, **onto: Any) -> IngestResult:
    def report(done: int, total: int | None) -> None:
        watch.report({"stage": "checking images", "images_checked": done, "images_total": total})

    return ingest(
        source,
        store=context.blobs,
        project=task.project_id,
        limits=context.limits,
        progress=report,
        cancelled=watch.cancelled,
        **onto,
    )


def _ingest_texts(context: WorkerContext, task: Task, watch: Watch, source: Path, /) -> IngestResult:
    def report(done: int, total: int | None) -> None:
        watch.report({"stage": "reading texts", "images_checked": done, "images_total": total})

    return ingest_texts(
        source,
        TextColumns(**task.payload["texts"]),
        store=context.blobs,
        project=task.project_id,
        limits=context.limits,
        progress=report,
        cancelled=watch.cancelled,
    )


def _version(
    context: WorkerContext, task: Task, watch: Watch, made_from: list[str], /
) -> tuple[IngestResult, Mapping[str, Any]]:
    manifests = [_sealed_manifest(context, task, ident) for ident in made_from]
    parent = manifests[0]
    asked = Changes()
    if task.payload["changes"] is not None:
        body = VersionCreate.model_validate_json(Path(task.payload["changes"]).read_bytes())
        asked = Changes(tuple(body.remove), body.relabel)
    rows = [*edited(parent, asked), *(row for other in manifests[1:] for row in known_rows(other))]
    if task.payload["archive"] is not None:
        result = _ingest(context, task, watch, Path(task.payload["archive"]), onto=rows)
    else:
        with context.database.read() as session:
            report = datasets.get(session, task.project_id, made_from[0]).report or {}
        result = rebuilt(rows, report["layout"])
    return result, difference(parent, result.manifest)


def _sealed_manifest(context: WorkerContext, task: Task, ident: str, /) -> Manifest:
    with context.database.read() as session:
        row = datasets.find(session, task.project_id, ident)
    if row is None or row.state != "sealed":
        raise _removed()
    return read_manifest(context.manifest_path(task.project_id, row.id))


def _removed() -> InvalidRequest:
    return InvalidRequest("The dataset that this was to be made from was removed meanwhile: make it from another one.")


def _refuse(context: WorkerContext, task: Task, problem: Mapping[str, str], /) -> None:
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)
        refuse(session, datasets.get(session, task.project_id, task.subject_id), problem)
    remove_source(task)


def remove_source(task: Task, /) -> None:
    """An upload is of no use once its images are stored or refused; a user's own path is never touched."""
    if task.payload.get("delete_source"):
        Path(task.payload["source"]).unlink(missing_ok=True)
