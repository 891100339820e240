"""The order of a ranking's entries and what cannot be told apart in it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

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


def order_by_sample(
    scores: Mapping[str, Score | None],
    samples: Mapping[str, int | None],
    /,
    *,
    direction: Direction,
    names: Mapping[str, str] | None = None,
) -> list[Ordered]:
    """The same, but whoever got further in a race comes first: scores of samples of two sizes do not compare."""
    placed: list[Ordered] = []
    before = 0
    for size in sorted(set(samples.values()), key=lambda size: -(size or 0)):
        part = order({i: s for i, s in scores.items() if samples[i] == size}, direction=direction, names=names)
        placed += [replace(at, rank=None if at.rank is None else at.rank + before) for at in part]
        before += sum(at.rank is not None for at in part)
    return placed


def standing(
    model_id: str,
    scores: Mapping[str, Score | None],
    samples: Mapping[str, int | None],
    /,
    *,
    direction: Direction,
    names: Mapping[str, str],
) -> tuple[int | None, int]:
    """One model's rank as `order_by_sample` has it, and how many it is tied with: a hundredth of ordering all."""
    own = scores[model_id]
    if own is None:
        return None, 0
    sign = -1.0 if direction is Direction.HIGHER_IS_BETTER else 1.0
    place, rank = (-(samples[model_id] or 0), sign * own.value, names[model_id]), 1
    beside: list[Score] = []
    for ident, score in scores.items():
        if score is None or ident == model_id:
            continue
        rank += (-(samples[ident] or 0), sign * score.value, names[ident]) < place
        if samples[ident] == samples[model_id]:
            beside.append(score)
    return rank, len(_ties([own, *beside], first_alone=True)[0])


def _ties(scores: Sequence[Score], *, first_alone: bool = False) -> list[list[int]]:
    """For each place, the other places within error of it: all pairs, a noisy model may be tied across a sure one."""
    blocks = {len(score.replicates) for score in scores}
    if len(blocks) != 1 or blocks == {0}:
        return _ties_pair_by_pair(scores)
    import numpy as np

    values = np.array([score.value for score in scores])
    left_out = np.array([score.replicates for score in scores])
    centred = left_out - left_out.mean(axis=1, keepdims=True)
    n_blocks = left_out.shape[1]
    rows = 1 if first_alone else len(scores)
    covariance = centred[:rows] @ centred.T * (n_blocks - 1) / n_blocks
    variance = (centred**2).sum(axis=1) * (n_blocks - 1) / n_blocks
    errors = np.sqrt(np.maximum(variance[:rows, None] + variance[None, :] - 2 * covariance, 0.0))
    tied = np.abs(values[:rows, None] - values[None, :]) <= TIE_Z * errors
    np.fill_diagonal(tied, val=False)
    return [np.flatnonzero(row).tolist() for row in tied]


def _ties_pair_by_pair(scores: Sequence[Score]) -> list[list[int]]:
    ties: list[list[int]] = [[] for _ in scores]
    for i, j in combinations(range(len(scores)), 2):
        error = difference_stderr(scores[i], scores[j]) or 0.0
        if abs(scores[i].value - scores[j].value) <= TIE_Z * error:
            ties[i].append(j)
            ties[j].append(i)
    return [sorted(places) for places in ties]
