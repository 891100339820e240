"""The order of a ranking's entries and what cannot be told apart in it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from estimators.catalog import Direction
from estimators.compare import difference_stderr
from estimators.score import Score

TIE_Z = 1.645  # two-sided 90 %


@dataclass(frozen=True, slots=True)
class Ordered:
    """One model's place: `rank` is None where there is no score to order it by."""

    model_id: str
    rank: int | None
    tied_with: tuple[str, ...]


def order(
    scores: Mapping[str, Score | None], /, *, direction: Direction, names: Mapping[str, str] | None = None
) -> list[Ordered]:
    """Best first, models without a score last.

    Two models are tied when the difference of their scores, over the same left-out blocks of images, is within
    1.645 of its standard error.
    """
    sign = -1.0 if direction is Direction.HIGHER_IS_BETTER else 1.0
    label = names or {}
    scored = [(model, score) for model, score in scores.items() if score is not None]
    scored.sort(key=lambda pair: (sign * pair[1].value, label.get(pair[0], pair[0])))
    ties = _ties([score for _, score in scored])
    placed = [
        Ordered(model, place + 1, tuple(scored[other][0] for other in ties[place]))
        for place, (model, _) in enumerate(scored)
    ]
    unscored = sorted((m for m, s in scores.items() if s is None), key=lambda m: label.get(m, m))
    return placed + [Ordered(model, None, ()) for model in unscored]


def _ties(scores: Sequence[Score]) -> list[list[int]]:
    """For each place, the other places within error of it. Only neighbours up to the first clear gap are compared."""
    ties: list[list[int]] = [[] for _ in scores]
    for i, score in enumerate(scores):
        for j in range(i + 1, len(scores)):
            if abs(score.value - scores[j].value) > TIE_Z * (difference_stderr(score, scores[j]) or 0.0):
                break
            ties[i].append(j)
            ties[j].append(i)
    return [sorted(places) for places in ties]
