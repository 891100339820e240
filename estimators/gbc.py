"""GBC: how far apart the classes lie, as Gaussians with diagonal covariance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.shared import Options, Value, evaluate_case, make_case
from estimators.view import View

_FLOOR = 1e-4  # of the mean variance of a dimension: below it a class's variance in a dimension is taken to be this


def gbc(
    features: Tensor | ClassMoments | BlockMoments, labels: Tensor | None = None, /, *, blocks: Tensor | None = None
) -> Score:
    r"""Gaussian Bhattacharyya separation of the classes, on a log scale.

    For classes a, b with means mu and variances v per dimension, and v_ab = (v_a + v_b)/2,

        DB_ab = 1/8 sum_d (mu_a - mu_b)^2 / v_ab + 1/2 sum_d [log v_ab - (log v_a + log v_b)/2],

    and the value is -log of the mean over unordered pairs of exp(-DB_ab), the coefficient of overlap.

    Args:
        features: Features `[N, D]`, float32 or float64, finite; or moments of them.
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in nats, higher is better: 0 where all classes coincide, unbounded above. The diagnostic `overlap` is the
        mean coefficient itself, in [0, 1].

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity.
        Degenerate: One class; constant features.

    Reference:
        Pándy, Agostinelli, Uijlings, Ferrari, Mensink, "Transferability Estimation using Bhattacharyya Class
        Separability", CVPR 2022, arXiv:2111.12780.

    Notes:
        The paper sums -exp(-DB) over ordered pairs, so its value grows with the square of the number of classes, and
        rounds to zero for every good model: the mean and the logarithm keep the order of models and their distance.
        Variances are floored relative to the mean variance of all features, not at 1e-4, so the value does not
        change with the features' scale; the diagonal is kept whole, and no principal components are taken. Both parts
        of DB grow with D, on noise as well: models of different width are not to be compared by it.
    """
    return evaluate_case(gbc_value, make_case(features, labels, blocks, rows=False), Options())


def gbc_value(view: View, options: Options, /) -> Value:
    """GBC of a view."""
    return separation(view, view.moments.sums / view.counts[:, None])


def separation(view: View, means: Tensor, /) -> Value:
    """GBC with the class means `[C, D]` given (about any common point) and the view's variances."""
    view.require_classes()
    view.require_spread()
    unit = float(view.moments.std.square().mean())
    variances = (view.moments.variances / unit).clamp_min(_FLOOR)
    means = means / math.sqrt(unit)
    half_logs = 0.5 * variances.log().sum(1)
    distances = []
    for a in range(view.n_classes - 1):
        mixed = 0.5 * (variances[a + 1 :] + variances[a])
        apart = ((means[a + 1 :] - means[a]).square_() / mixed).sum(1)
        spread = _log_products(mixed) - half_logs[a + 1 :] - half_logs[a]
        distances.append(apart / 8 + spread / 2)
    all_pairs = torch.cat(distances)
    log_overlap = float(torch.logsumexp(-all_pairs, 0)) - math.log(all_pairs.shape[0])
    return -log_overlap, {
        "overlap": math.exp(log_overlap),
        "closest": float(all_pairs.min()),
        "smallest_class": int(view.counts.min()),
    }


def _log_products(values: Tensor) -> Tensor:
    """Sum of logs over each row, by multiplying halves together first: an eighth of the logarithms.

    In units of the mean variance values lie between the floor and D, so eight of them neither under- nor overflow.
    """
    for _ in range(3):
        half = values.shape[1] // 2
        if values.shape[1] != 2 * half or half == 0:
            break
        values = values[:, :half] * values[:, half:]
    return values.log().sum(1)
