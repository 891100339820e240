"""How long a task may take. Generous: the deadline ends what hangs, it hurries nothing."""

import math
from collections.abc import Iterable
from pathlib import Path

from service.embeddings import repository as embeddings
from service.embeddings.precision import extractor_ids
from service.jobs.model import Task, TaskKind
from service.models import repository as models
from service.worker.context import WorkerContext
from zoo.catalog import ModelCard

SLACK = 10.0  # times what was measured
UNMEASURED_SECONDS = 5.0  # an image, of a model that says nothing of its cost
MACS_PER_SECOND = 1e9  # of a model that nobody has timed on such a device: any core does more
TRAINING_PASSES = 40  # forward and backward, of the longest recipe
READ_BYTES_PER_SECOND = 500_000


def seconds_for(context: WorkerContext, task: Task, device: str, /) -> float:
    floor = context.settings.worker.task_seconds
    match task.kind:
        case TaskKind.EMBED:
            return floor + _embedding_seconds(context, task, device)
        case TaskKind.INSPECT:
            return floor + allowance(int(task.payload.get("images", 0)), [(None, None)])
        case TaskKind.FINETUNE:
            return floor + _training_seconds(context, task)
        case TaskKind.INGEST:
            return floor + _reading_seconds(task)
        case _:
            return floor


def allowance(images: int, costs: Iterable[tuple[float | None, int | None]], /) -> float:
    """Seconds for some images by models of (measured images a second, multiply-adds an image), either unknown."""
    return sum(images * _per_image(rate, macs) for rate, macs in costs)


def _per_image(rate: float | None, macs: int | None) -> float:
    if rate:
        return SLACK / rate
    return UNMEASURED_SECONDS if macs is None else max(1.0, macs / MACS_PER_SECOND)


def _embedding_seconds(context: WorkerContext, task: Task, device: str) -> float:
    with context.database.read() as session:
        rows = list(models.by_ids(session, task.project_id, task.payload.get("models", ())).values())
        pinned = {row.id: (ModelCard.from_json(row.card), row.weights_sha256) for row in rows if row.weights_sha256}
        extractors = dict(zip(pinned, extractor_ids(session, task.project_id, list(pinned.values())), strict=True))
        rates = embeddings.speeds(session, task.project_id, list(extractors.values()), on_cpu=device == "cpu")
    costs = [(rates.get(extractors.get(row.id, "")), row.macs) for row in rows]
    images = int(task.payload.get("images") or task.payload.get("to_score", 0))
    images //= max(1, len(task.payload.get("models", ())))
    return allowance(images, costs)


def _training_seconds(context: WorkerContext, task: Task) -> float:
    with context.database.read() as session:
        rows = models.by_ids(session, task.project_id, task.payload["model_ids"]).values()
        return allowance(int(task.payload["images"]) * TRAINING_PASSES, [(None, row.macs) for row in rows])


def _reading_seconds(task: Task) -> float:
    total = 0.0
    for path in (Path(task.payload[name]) for name in ("source", "archive") if task.payload.get(name)):
        if path.is_dir():
            return math.inf  # a folder of this machine's, named by who may read it
        if path.exists():
            total += path.stat().st_size / READ_BYTES_PER_SECOND
    return total
