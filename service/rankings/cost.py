"""What a ranking may cost, from how fast models have run here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from sqlalchemy.orm import Session

from service.core.budget import Budget
from service.embeddings import repository as embeddings
from service.embeddings.precision import written_extractor_ids
from service.jobs import repository as jobs
from service.models import repository as models
from service.models.repository import Weighed
from service.models.tables import ModelRow
from service.rankings.race import rungs

SECONDS_A_MAC, SECONDS_A_PARAM = 1 / 20e9, 2e-9  # of one core, until a model has run here
LEAST_FIRST = 20  # images of a first rung


@dataclass(frozen=True, slots=True)
class Cost:
    """`seconds` is None where none of the models has run here. What is embedded already makes it less."""

    seconds: float | None
    measured: int  # models whose speed is known
    guessed: int  # models taken to cost what others of their size do
    devices: tuple[str, ...]  # of the workers that are alive
    raced: int | None  # models that the budget reaches; None without one, or where it is of time and none has run here


def seconds_per_image(session: Session, project_id: str, rows: Sequence[ModelRow], /) -> dict[str, float | None]:
    """By model id: as measured here; else from its multiply-adds or parameters, as the measured ones relate to theirs.

    None where nothing is known of the model. Good enough to put the cheapest first.
    """
    weighed = models.weighed(session, project_id, [row.id for row in rows])
    return _guessed(weighed, _measured(session, project_id, weighed))


def _measured(session: Session, project_id: str, rows: Sequence[Weighed]) -> dict[str, float]:
    pinned = {row.id: (row.card, row.weights_sha256) for row in rows if row.weights_sha256}
    wanted = written_extractor_ids(session, project_id, list(pinned.values()))
    speeds: dict[str, float] = {}
    for start in range(0, len(wanted), 500):
        speeds |= embeddings.speeds(session, project_id, wanted[start : start + 500])
    return {ident: 1 / speeds[of] for ident, of in zip(pinned, wanted, strict=True) if of in speeds}


def _guessed(rows: Sequence[Weighed], measured: Mapping[str, float]) -> dict[str, float | None]:
    by_macs = [measured[row.id] / row.macs for row in rows if row.id in measured and row.macs]
    by_params = [measured[row.id] / row.params for row in rows if row.id in measured and row.params]
    each_mac = median(by_macs) if by_macs else SECONDS_A_MAC
    each_param = median(by_params) if by_params else SECONDS_A_PARAM
    found: dict[str, float | None] = {}
    for row in rows:
        guess = row.macs * each_mac if row.macs else row.params * each_param if row.params else None
        found[row.id] = measured.get(row.id, guess)
    return found


def cost(
    session: Session, project_id: str, rows: Sequence[Weighed], /, *, images: int, classes: int, budget: Budget | None
) -> Cost:
    measured = _measured(session, project_id, rows)
    devices = tuple(worker.device for worker in jobs.workers(session))
    at_once = max(1, len(devices))
    if not measured:
        raced = first_rung(len(rows), images, classes, budget)[0] if budget and budget.images is not None else None
        return Cost(None, 0, len(rows), devices, raced)
    usual = median(measured.values())
    each = sorted(usual if cost is None else cost for cost in _guessed(rows, measured).values())
    raced = None
    if budget is not None:
        raced, size = first_rung(len(each), images, classes, budget)
        if budget.seconds is not None:
            raced = sum(spent * size <= budget.seconds * at_once for spent in accumulate(each))
    return Cost(images * sum(each) / at_once, len(measured), len(rows) - len(measured), devices, raced)


def first_rung(candidates: int, images: int, classes: int, budget: Budget, /) -> tuple[int, int]:
    """How many candidates a budget of images reaches, and the sample that each of them sees first."""
    size = rungs(images, classes)[0]
    if budget.images is None or size * candidates <= budget.images:
        return candidates, size
    size = max(min(LEAST_FIRST, size), budget.images // candidates)
    return min(candidates, budget.images // size), size
