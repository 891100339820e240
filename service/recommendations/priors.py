"""What is known of models before they have seen a dataset: read from the project and the package, then foretold."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy.orm import Session

from service.datasets.tables import DatasetRow
from service.models.repository import Brief
from service.recommendations.model import PriorOf
from service.recommendations.published import published, sizes
from service.recommendations.similar import copies
from service.recommendations.tied import tied_outcomes
from zoo.imagenet import imagenet_top1
from zoo.pretraining import pretrained_on

if TYPE_CHECKING:
    from service.recommendations.prior import Prior


def priors(
    session: Session,
    project_id: str,
    dataset: DatasetRow,
    models: Sequence[Brief],
    similar: Mapping[str, float],
    /,
) -> dict[str, PriorOf]:
    """Of these models, from the accuracies that ship with the package and the project's own outcomes."""
    elsewhere: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    here: dict[str, list[float]] = defaultdict(list)
    ids: dict[tuple[str, str], str | None] = {}
    for known in published():
        elsewhere[known.pool, known.dataset][known.model].append(known.accuracy)
    for outcome in tied_outcomes(session, project_id):
        if outcome.dataset_id == dataset.id or (outcome.fingerprint and outcome.fingerprint == dataset.fingerprint):
            here[outcome.model].append(outcome.accuracy)
        else:
            key = (f"project, {outcome.recipe}", outcome.fingerprint or outcome.dataset)
            elsewhere[key][outcome.model].append(outcome.accuracy)
            ids[key] = outcome.dataset_id
    import numpy as np  # here, so that the API starts without it

    rows = {row.name: row for row in models}
    every = sorted({*rows, *here, *(model for cells in elsewhere.values() for model in cells)})
    at = {name: place for place, name in enumerate(every)}

    def row(cells: Mapping[str, Sequence[float]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        found = np.full(len(every), np.nan)
        for model, values in cells.items():
            found[at[model]] = sum(values) / len(values)
        return found

    # Outcomes on datasets that are like this one count several times.
    alike = [row(cells) for key, cells in sorted(elsewhere.items()) for _ in range(copies(similar, ids.get(key)))]
    others = np.array(alike).reshape(-1, len(every))
    cards = tuple(_card(name, rows.get(name)) for name in every)
    prior = _prior(others.tobytes(), row(here).tobytes(), tuple(every), cards)

    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    found = {}
    for name in rows:
        i = at[name]
        if not np.isfinite(prior.value[i]):
            continue
        bounds = (number(prior.low[i]), number(prior.high[i]))
        found[name] = PriorOf(
            basis=prior.basis[i],
            value=float(prior.value[i]),
            stderr=number(prior.stderr[i]),
            accuracy=number(prior.accuracy[i]),
            interval=(bounds[0], bounds[1]) if bounds[0] is not None and bounds[1] is not None else None,
        )
    return found


Card = tuple[int | None, float | None, str]


def _card(name: str, row: Brief | None) -> Card:
    """Parameters, top-1 on ImageNet-1k, and what it was trained on: the project's own word before what is published."""
    params, top1, trained = (row.params, row.imagenet_top1, row.pretrained_on) if row else (None, None, None)
    return (
        params or sizes().get(name),  # no backbone has none
        imagenet_top1().get(name) if top1 is None else top1,
        trained or pretrained_on(name.partition(".")[2]) or "",
    )


@lru_cache(maxsize=32)
def _prior(others: bytes, here: bytes, names: tuple[str, ...], cards: tuple[Card, ...], /) -> "Prior":
    """The same accuracies give the same prior, and whoever looks once looks again."""
    import numpy as np

    from service.recommendations.prior import Cards, predict

    params, top1 = (np.array([np.nan if card[at] is None else card[at] for card in cards], float) for at in (0, 1))
    return predict(
        np.frombuffer(others).reshape(-1, len(names)),
        np.frombuffer(here),
        names,
        cards=Cards(params, top1, [trained for _, _, trained in cards]),
    )
