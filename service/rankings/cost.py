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

SECONDS_A_MAC, SECONDS_A_PARAM = 1 / 20e9, 2e-9  # of one core, until a model has run here


@dataclass(frozen=True, slots=True)
class Cost:
    """`seconds` is None where none of the models has run here. What is embedded already makes it less."""

    seconds: float | None
    measured: int  # models whose speed is known
    guessed: int  # models taken to cost as much as the median one of the others
    workers: int


def seconds_per_image(session: Session, project_id: str, rows: Sequence[ModelRow], /) -> dict[str, float | None]:
    """By model id: as measured here; else from its multiply-adds or parameters, as the measured ones relate to theirs.

    None where nothing is known of the model. Good enough to put the cheapest first.
    """
    pinned = {row.id: (ModelCard.from_json(row.card), row.weights_sha256) for row in rows if row.weights_sha256}
    cards = [(card, sha256) for card, sha256 in pinned.values() if sha256 is not None]
    idents = dict(zip(pinned, extractor_ids(session, project_id, cards), strict=True))
    speeds: dict[str, float] = {}
    wanted = list(idents.values())
    for start in range(0, len(wanted), 500):
        speeds |= embeddings.speeds(session, project_id, wanted[start : start + 500])
    measured = {row.id: 1 / speeds[idents[row.id]] for row in rows if idents.get(row.id) in speeds}
    by_macs = [measured[row.id] / row.macs for row in rows if row.id in measured and row.macs]
    by_params = [measured[row.id] / row.params for row in rows if row.id in measured and row.params]
    each_mac = median(by_macs) if by_macs else SECONDS_A_MAC
    each_param = median(by_params) if by_params else SECONDS_A_PARAM
    found: dict[str, float | None] = {}
    for row in rows:
        guess = row.macs * each_mac if row.macs else row.params * each_param if row.params else None
        found[row.id] = measured.get(row.id, guess)
    return found


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
