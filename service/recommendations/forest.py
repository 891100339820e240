"""Extremely randomised trees as weights: how much each known value says about each new row.

Weights instead of predictions, for from them come the mean, the quantiles and the reasons alike (Geurts et al. 2006,
Meinshausen 2006). NumPy alone: the API process has no scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.intp]

SEED = 20_261_121


def weights(
    known: Floats,
    targets: Floats,
    new: Floats,
    /,
    *,
    trees: int = 200,
    leaf: int = 2,
    share_of_features: float = 0.3,
    share_of_rows: float = 0.8,
) -> tuple[Floats, Floats]:
    """Weights [new, known] of the known rows for each new row, and [known, known] for each known row left out.

    Each tree sees a share of the known rows; the others meet it as new ones, so that the second matrix holds honest
    predictions of the known values. Rows of weights sum to 1.
    """
    rng = np.random.default_rng(SEED)
    n = len(known)
    rows = np.concatenate([known, new])
    total, met = np.zeros((len(rows), n)), np.zeros(len(rows))
    tried = max(1, round(share_of_features * known.shape[1]))
    for _ in range(trees):
        dealt = rng.permutation(n)
        kept = max(min(n, 2 * leaf), round(share_of_rows * n))
        asked = np.concatenate([dealt[kept:], np.arange(n, len(rows))])
        met[asked] += 1
        nodes = [(dealt[:kept], asked)]
        while nodes:
            inside, queries = nodes.pop()
            if not len(queries):
                continue
            split = _split(rows, targets, inside, rng, leaf, tried)
            if split is None:
                total[np.ix_(queries, inside)] += 1 / len(inside)
                continue
            feature, threshold = split
            below = rows[:, feature] <= threshold
            nodes.extend((inside[side[inside]], queries[side[queries]]) for side in (below, ~below))
    total /= np.maximum(met, 1)[:, None]
    return total[n:], total[:n]


def _split(
    rows: Floats, targets: Floats, inside: Indices, rng: np.random.Generator, leaf: int, tried: int
) -> tuple[int, float] | None:
    """Of some features, each cut at random, the one that explains most; None where the node is a leaf."""
    if len(inside) < 2 * leaf or np.ptp(targets[inside]) == 0:
        return None
    held = rows[inside]
    low, high = held.min(axis=0), held.max(axis=0)
    open_ = np.flatnonzero(high > low)
    if not len(open_):
        return None
    chosen = rng.permutation(open_)[:tried]
    cuts = rng.uniform(low[chosen], high[chosen])
    left = held[:, chosen] <= cuts
    n_left = left.sum(axis=0)
    allowed = (n_left >= leaf) & (len(inside) - n_left >= leaf)
    if not allowed.any():
        return None
    centred = targets[inside] - targets[inside].mean()
    gain = np.where(allowed, (centred @ left) ** 2 / np.maximum(n_left * (len(inside) - n_left), 1), -1.0)
    best = int(np.argmax(gain))
    return int(chosen[best]), float(cuts[best])
