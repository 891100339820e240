"""GBC: how far apart the classes lie, as Gaussians with diagonal covariance."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.shared import SLOPES, Options, Value, evaluate_case, make_case
from estimators.view import View

_FLOOR = 1e-4  # of the mean variance of a dimension: below it a class's variance in a dimension is taken to be this
_UNFELT = 1e-6  # of the overlap: pairs of classes below it do not move the value
_CHUNK = 2**21  # numbers held at once


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
    return separation(view, torch.eye(view.n_classes, dtype=torch.float64, device=view.counts.device))


def separation(view: View, mixing: Tensor, /) -> Value:
    """GBC with the class means `mixing @ means` and the view's variances."""
    view.require_classes()
    view.require_spread()
    m = view.moments
    means = mixing @ (m.sums / view.counts[:, None])
    apart = means - view.counts @ means / view.n
    unit = (view.within_trace + float(view.counts @ apart.square().sum(1))) / (view.n * view.dim)
    variances = (m.variances / unit).clamp_min(_FLOOR)
    means /= math.sqrt(unit)
    half_logs = 0.5 * variances.log().sum(1)
    distances = []
    halves = 0.5 * variances
    for a in range(view.n_classes - 1):
        mixed = halves[a + 1 :] + halves[a]
        apart = (means[a + 1 :] - means[a]).square_().div_(mixed).sum(1)
        spread = _log_products(mixed) - half_logs[a + 1 :] - half_logs[a]
        distances.append(apart / 8 + spread / 2)
    all_pairs = torch.cat(distances)
    total = torch.logsumexp(-all_pairs, 0)
    if view.parts:
        view.memo[SLOPES] = _slopes(view, mixing, means, variances, (-all_pairs - total).exp(), unit)
    log_overlap = float(total) - math.log(all_pairs.shape[0])
    return -log_overlap, {
        "overlap": math.exp(log_overlap),
        "closest": float(all_pairs.min()),
        "smallest_class": int(view.counts.min()),
    }


def _slopes(view: View, mixing: Tensor, means: Tensor, variances: Tensor, shares: Tensor, unit: float) -> Tensor:
    """Derivative of the value in the weight of each block `[B]`, with the mixing of the means held fixed.

    Args:
        view: View of all images.
        mixing: As for `separation`.
        means: Mixed class means `[C, D]`, in units of sqrt(unit).
        variances: Floored class variances `[C, D]`, in the same units.
        shares: Each pair's share `[C(C-1)/2]` of the overlap: the derivative of the value in that pair's distance.
        unit: Mean variance of a dimension, taken as fixed: it moves the floor alone.
    """
    m, n = view.moments, view.counts[:, None]
    by_mean, by_variance = torch.zeros_like(means), torch.zeros_like(variances)
    pairs = torch.triu_indices(view.n_classes, view.n_classes, 1, device=means.device)
    felt = (shares > _UNFELT).nonzero()[:, 0]
    for some in torch.split(felt, max(1, _CHUNK // view.dim)):
        a, b = pairs[:, some]
        share, difference = shares[some, None], means[b] - means[a]
        mixed = 0.5 * (variances[b] + variances[a])
        pull = share * difference / (4 * mixed)
        by_mean.index_add_(0, b, pull).index_add_(0, a, -pull)
        common = 0.25 / mixed - (difference / mixed).square() / 16
        for c in (a, b):
            by_variance.index_add_(0, c, share * (common - 0.25 / variances[c]))
    by_variance = torch.where(variances > _FLOOR, by_variance, 0.0) / unit
    by_mean = mixing.T @ by_mean / math.sqrt(unit)
    own = m.sums / n
    # by the sums of a class: the mean moves by 1/n, the variance by -2 mean/n; by its size: by -mean/n and so on
    by_sums = (by_mean - 2 * by_variance * own) / n
    by_squares = by_variance / n
    by_count = -(by_sums * own + by_squares * m.squares / n).sum(1)
    return torch.stack([
        by_count[at] @ part.counts.to(torch.float64)
        + (by_sums[at] * part.sums).sum() + (by_squares[at] * part.squares).sum()
        for at, part in view.parts_by_class()
    ])  # fmt: skip


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
