"""Checks and seals an uploaded dataset."""

from pathlib import Path

from service.core.ids import new_id
from service.datasets import repository as datasets
from service.datasets.errors import DatasetRefused
from service.datasets.ingest import ingest
from service.datasets.manifest import write_manifest
from service.jobs import repository as jobs
from service.jobs.model import Task, TaskState
from service.worker.context import Watch, WorkerContext


def ingest_dataset(context: WorkerContext, task: Task, watch: Watch, /) -> None:
    source = Path(task.payload["source"])

    def report(done: int, total: int | None) -> None:
        watch.report({"stage": "checking images", "images_checked": done, "images_total": total})

    try:
        result = ingest(
            source,
            store=context.blobs,
            project=task.project_id,
            limits=context.limits,
            progress=report,
            cancelled=watch.cancelled,
        )
    except DatasetRefused as refusal:
        with context.database.write() as session:
            jobs.finish(session, task, state=TaskState.DONE)
            datasets.refuse(datasets.get(session, task.project_id, task.subject_id), refusal_problem(refusal))
        remove_source(task)
        return
    path = context.manifest_path(task.project_id, task.subject_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{new_id('tmp')}.part")
    write_manifest(result.manifest, temporary)
    temporary.rename(path)
    with context.database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)
        datasets.seal(
            datasets.get(session, task.project_id, task.subject_id),
            fingerprint=result.manifest.fingerprint,
            n_images=len(result.manifest),
            classes=result.manifest.classes,
            report=result.report.to_json(),
        )
    remove_source(task)


def refusal_problem(refusal: DatasetRefused, /) -> dict[str, str]:
    """Without an HTTP status: the API adds it."""
    return {
        "type": f"/problems/{refusal.slug}",
        "title": f"The dataset was refused: {refusal.slug.replace('-', ' ')}",
        "detail": str(refusal),
    }


def remove_source(task: Task, /) -> None:
    """An upload is of no use once its images are stored or refused; a user's own path is never touched."""
    if task.payload.get("delete_source"):
        Path(task.payload["source"]).unlink(missing_ok=True)
