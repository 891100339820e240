"""How well one order agrees with another. NumPy alone: the API process has no SciPy. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEAST = 3
"""Models that a dataset must have: two are ordered rightly by chance half the time."""
DRAWS = 2000


def weighted_tau(told: Floats, truth: Floats, /) -> float:
    """What `scipy.stats.weightedtau(told, truth)` gives by default; NaN where either is all equal."""
    return (_tau_by(told, truth, lead=told, then=truth) + _tau_by(told, truth, lead=truth, then=told)) / 2


def _tau_by(told: Floats, truth: Floats, *, lead: Floats, then: Floats) -> float:
    """Weighted by places in one order, ties broken by the other."""
    place = np.empty(len(lead))
    place[np.lexsort((then, lead))[::-1]] = np.arange(len(lead))
    one = 1 / (place + 1)
    weight = one[:, None] + one[None, :]
    np.fill_diagonal(weight, 0.0)
    a, b = np.sign(told[:, None] - told[None, :]), np.sign(truth[:, None] - truth[None, :])
    scale = np.sqrt((weight * a * a).sum() * (weight * b * b).sum())
    return float((weight * a * b).sum() / scale) if scale > 0 else float("nan")


def regret(told: Floats, truth: Floats, k: int, /) -> float:
    """Points of accuracy that the best of the first k falls short of the best of all."""
    first = np.argsort(-told, kind="stable")[:k]
    return 100 * float(truth.max() - truth[first].max())


def mean_and_interval(values: Floats, /) -> tuple[float, float, float]:
    """Mean over datasets with its 90 % percentile bootstrap over datasets; the interval is NaN below two."""
    known = values[np.isfinite(values)]
    if len(known) < 2:
        return float(known.mean()) if len(known) else float("nan"), float("nan"), float("nan")
    dice = np.random.default_rng(0)
    means = known[dice.integers(len(known), size=(DRAWS, len(known)))].mean(axis=1)
    low, high = np.quantile(means, (0.05, 0.95))
    return float(known.mean()), float(low), float(high)
