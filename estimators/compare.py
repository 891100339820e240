"""Which of two models is better, and which of a ranking's models cannot be told apart. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist

from estimators.catalog import Direction
from estimators.errors import InvalidInput
from estimators.score import Score


def jackknife_stderr(replicates: Sequence[float], /) -> float:
    """Standard error from delete-one-block values: sqrt((B - 1)/B sum (v_b - mean)^2)."""
    n = len(replicates)
    if n < 2:
        raise InvalidInput(f"a jackknife needs at least 2 blocks, got {n}")
    moves = [v - replicates[0] for v in replicates]  # equal values have a mean that rounding may part from them
    mean = math.fsum(moves) / n
    return math.sqrt((n - 1) / n * math.fsum((v - mean) ** 2 for v in moves))


def difference_stderr(a: Score, b: Score, /) -> float | None:
    """Standard error of `a.value - b.value`: paired where both have replicates of the same blocks, else as if
    independent; None where either states no error.
    """
    if a.replicates and len(a.replicates) == len(b.replicates):
        return jackknife_stderr([x - y for x, y in zip(a.replicates, b.replicates, strict=True)])
    if a.stderr is None or b.stderr is None:
        return None
    return math.hypot(a.stderr, b.stderr)


def prob_better(a: Score, b: Score, /, *, direction: Direction = Direction.HIGHER_IS_BETTER) -> float:
    """Probability that model A would beat model B on another draw of as many images of the same kind.

    The value on the other draw is as noisy as the one at hand, so the difference is set against sqrt(2) times its
    standard error. Measured so, on halves of real sets, models won as often as stated; the probability that A is the
    better one in truth is further from 0.5.

    Args:
        a: Score of model A.
        b: Score of model B, on the same images and, for a paired comparison, the same blocks.
        direction: Whether a larger value is better.

    Returns:
        P(A beats B) in [0, 1]; 0.5 where neither states an error and the values are equal.

    Raises:
        InvalidInput: The values differ and no error is stated: there is no probability to give.
    """
    difference = a.value - b.value if direction is Direction.HIGHER_IS_BETTER else b.value - a.value
    error = difference_stderr(a, b)
    if error is None:
        if difference == 0:
            return 0.5
        raise InvalidInput("no standard error is stated: values can be ordered, but with no probability")
    if error == 0:
        return 0.5 if difference == 0 else float(difference > 0)
    return NormalDist().cdf(difference / (math.sqrt(2) * error))


def tie_groups(scores: Sequence[Score], /, *, direction: Direction, confidence: float = 0.9) -> list[int]:
    """Group number of each of a ranking's scores, best first: within a group the best is not told from the others.

    A group is opened by the best score not yet in one, and takes in those after it until one differs from its opener
    by more than the two-sided error of the difference. Scores without an error tie only where they are equal.

    Args:
        scores: In rank order, best first.
        direction: Whether a larger value is better; the order is checked against it.
        confidence: Two-sided level of the error.
    """
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence must lie between 0 and 1, got {confidence}")
    sign = 1.0 if direction is Direction.HIGHER_IS_BETTER else -1.0
    if any(sign * a.value < sign * b.value for a, b in pairwise(scores)):
        raise InvalidInput("scores must come in rank order, best first")
    reach = NormalDist().inv_cdf(0.5 + confidence / 2)
    groups: list[int] = []
    opener: Score | None = None
    for score in scores:
        if opener is None:
            groups.append(0)
            opener = score
            continue
        error = difference_stderr(opener, score) or 0.0
        if abs(opener.value - score.value) > reach * error:
            groups.append(groups[-1] + 1)
            opener = score
        else:
            groups.append(groups[-1])
    return groups
