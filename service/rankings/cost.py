"""What a ranking may cost, from how fast models have run here."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy.orm import Session

from service.embeddings import repository as embeddings
from service.embeddings.precision import extractor_ids
from service.jobs import repository as jobs
from service.models.tables import ModelRow
from zoo.catalog import ModelCard


@dataclass(frozen=True, slots=True)
class Cost:
    """`seconds` is None where none of the models has run here. What is embedded already makes it less."""

    seconds: float | None
    measured: int  # models whose speed is known
    guessed: int  # models taken to cost as much as the median one of the others
    workers: int


def cost(session: Session, project_id: str, rows: Sequence[ModelRow], /, *, images: int) -> Cost:
    pinned = [(ModelCard.from_json(row.card), row.weights_sha256) for row in rows if row.weights_sha256 is not None]
    idents = extractor_ids(session, project_id, [(card, sha256) for card, sha256 in pinned if sha256 is not None])
    speeds = [
        speed
        for start in range(0, len(idents), 500)
        for speed in embeddings.speeds(session, project_id, idents[start : start + 500]).values()
    ]
    workers = jobs.workers_alive(session)
    if not speeds:
        return Cost(None, 0, len(rows), workers)
    each = [images / speed for speed in speeds]
    guessed = len(rows) - len(each)
    return Cost((sum(each) + guessed * median(each)) / max(1, workers), len(each), guessed, workers)
