"""Linear discriminant analysis with every image held out in turn, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.errors import Degenerate
from estimators.view import View

_CHUNK = 2048
_LEAST_SHRINKAGE = 1e-9  # keeps the shrunk scatter regular where the estimate is zero
_SAMPLED = 128  # rows on which the leverages of a replicate are computed rather than carried over
_EXACT_BELOW = 1024  # images below which a replicate is computed like the whole


@dataclass(frozen=True, slots=True, eq=False)
class Leverages:
    """The part of a held-out analysis that depends on W and on the rows about their class means only.

    Attributes:
        shrinkage: Ledoit-Wolf shrinkage a of the within-class covariance towards its mean variance.
        shift: tau, such that the shrunk scatter is (1 - a)(W + tau I).
        norms: |x_i - mu|^2 about the own class mean, `[N]`.
        leverage: (x_i - mu)^T (W + tau I)^-1 (x_i - mu), `[N]`.
        products: (x_i - mu)^T (W + tau I)^-1 mu_k for every class k, `[N, C]`; a replicate's in the rows' dtype.
        means: mu_j^T (W + tau I)^-1 mu_k, `[C, C]`.
        classes: Class index of each row, `[N]`.
    """

    shrinkage: float
    shift: float
    norms: Tensor
    leverage: Tensor
    products: Tensor
    means: Tensor
    classes: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Posterior of each image's own class, from the analysis fitted without the image.

    Attributes:
        own: Probability of the own class `[N]`; 0 for the only image of a class.
        log_own: Its logarithm `[N]`.
        softened: exp(own) over the sum of exp of every class's probability `[N]`; empty unless asked for.
        right: Whether the own class has the largest probability `[N]`.
    """

    own: Tensor
    log_own: Tensor
    softened: Tensor
    right: Tensor


def leverages(view: View, /) -> Leverages:
    """Leverages of a view, once; with a block left out of a large set, scaled from the parent's by a sample."""
    known = view.memo.get("discriminant")
    if not isinstance(known, Leverages):
        view.require_classes()
        view.require_spread()
        if view.n <= view.n_classes + 1:
            raise Degenerate(f"{view.n} images in {view.n_classes} classes: none can be held out")
        parent = view.parent
        near = parent is not None and not view.compressed and view.n >= _EXACT_BELOW and view.kept is not None
        known = _near(view, parent) if near and parent is not None else _exact(view)
        view.memo["discriminant"] = known
    return known


def held_out(view: View, mixing: Tensor | None, /, *, soften: bool = False) -> HeldOut:
    """Posteriors with each image held out, the class means replaced by `mixing @ means` where a mixing is given.

    Without image i of class c, whose mean then moves by -v/(n_c - 1) and whose scatter loses g v v^T with
    g = n_c/(n_c - 1), every distance follows from v's leverage and its products with the class means
    (Sherman-Morrison).
    """
    found = leverages(view)
    means, products = found.means, found.products
    if mixing is not None:
        means, products = mixing @ means @ mixing.T, products @ mixing.T.to(products.dtype)
    counts = view.counts
    inflation = torch.where(counts > 1, counts / (counts - 1).clamp_min(1), 0.0)[found.classes]
    remaining = (1 - inflation * found.leverage).clamp_min(1e-12)
    several = counts[found.classes] > 1
    # what the noise of a mean adds to a squared distance is trace / n_k, with the trace estimated from held-out rows
    trace = float((inflation * found.leverage / remaining)[several].mean()) if bool(several.any()) else 0.0
    scale = (view.n - 1 - view.n_classes) / (1 - found.shrinkage)
    means, counts, inflation, remaining, leverage = (
        a.to(products.dtype) for a in (means, counts, inflation, remaining, found.leverage)
    )
    parts = [
        _posteriors(
            found.classes, leverage, means, products, counts, inflation, remaining, trace, scale,
            slice(start, start + _CHUNK), soften,
        )
        for start in range(0, view.n, _CHUNK)
    ]  # fmt: skip
    own, log_own, soft, right = (torch.cat(column) for column in zip(*parts, strict=True))
    return HeldOut(own.to(torch.float64), log_own.to(torch.float64), soft.to(torch.float64), right)


def posterior(view: View, rows: Tensor, /) -> Tensor:
    """Class probabilities `[M, C]` of rows `[M, r]` (in the view's own features) that the view does not contain."""
    found = leverages(view)
    counts, means = view.counts, view.moments.means
    inflation = torch.where(counts > 1, counts / (counts - 1).clamp_min(1), 0.0)[found.classes]
    trace = float((inflation * found.leverage / (1 - inflation * found.leverage).clamp_min(1e-12)).mean())
    scale = (view.n - view.n_classes) / (1 - found.shrinkage)
    matrix = view.moments.within_scatter()
    matrix.diagonal().add_(found.shift)
    factor = torch.linalg.cholesky(matrix)
    centre = view.moments.mean
    solved = torch.cholesky_solve((means - centre).T, factor)
    norms = ((means - centre).T * solved).sum(0)
    logits = scale * ((rows.to(torch.float64) - centre) @ solved - 0.5 * norms + 0.5 * trace / counts) + counts.log()
    return torch.softmax(logits, 1)


def _posteriors(
    all_classes: Tensor, all_leverage: Tensor, means: Tensor, products: Tensor, counts: Tensor, inflation: Tensor,
    remaining: Tensor, trace: float, scale: float, rows: slice, soften: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    classes, leverage = all_classes[rows], all_leverage[rows, None]
    own_index = classes[:, None]
    left, g = remaining[rows, None], inflation[rows, None]
    along = products[rows].gather(1, own_index) - products[rows]  # v . (mu_c - mu_k) in the metric
    norms = means.diagonal()
    apart = (norms[:, None] - 2 * means + norms)[classes]
    distance = leverage + 2 * along + apart + g * (leverage + along).square() / left
    own_distance = g.square() * leverage / left
    own_count = counts[classes][:, None]
    logits = -0.5 * scale * (distance - trace / counts) + counts.log()
    own = -0.5 * scale * (own_distance - trace / (own_count - 1).clamp_min(1)) + (own_count - 1).log()
    logits = logits.scatter(1, own_index, own)
    log_posterior = torch.log_softmax(logits, 1)
    log_own = log_posterior.gather(1, own_index)[:, 0]
    soft = torch.softmax(log_posterior.exp(), 1).gather(1, own_index)[:, 0] if soften else log_own[:0]
    return log_own.exp(), log_own, soft, logits.argmax(1) == classes


def _exact(view: View) -> Leverages:
    rows, classes = view.rows()
    means, centred = view.means, view.means - view.mean  # of the latter differences alone count, and keep their digits
    norms = torch.cat([_about(rows, classes, means, s).square().sum(1) for s in _slices(view.n)])
    shrinkage = _shrinkage(view, norms)
    shift = _shift(view, shrinkage)
    matrix = view.within.clone()
    matrix.diagonal().add_(shift)
    factor = torch.linalg.cholesky(matrix)
    solved = torch.cholesky_solve(centred.T, factor)
    leverage, products = [], []
    for part in _slices(view.n):
        v = _about(rows, classes, means, part)
        leverage.append(torch.linalg.solve_triangular(factor, v.T, upper=False).square().sum(0))
        products.append(v @ solved)
    return Leverages(shrinkage, shift, norms, torch.cat(leverage), torch.cat(products), centred @ solved, classes)


def _near(view: View, parent: View) -> Leverages:
    """All exact but the leverages: a sample's are computed, the rest follow the parent's by the same ratio."""
    before = leverages(parent)
    kept = view.kept
    if kept is None:
        return _exact(view)
    rows, _ = parent.rows()
    index = kept.nonzero()[:, 0]
    classes = view.own_classes(before.classes[index])
    norms = before.norms[index]
    shrinkage = _shrinkage(view, norms)
    shift = _shift(view, shrinkage)
    sample = torch.linspace(0, view.n - 1, _SAMPLED, device=index.device).round().to(torch.int64)
    v = (rows[index[sample]].to(torch.float64) - view.means[classes[sample]]).T
    weights, exact = view.solve_within(v, shift)
    weights -= (weights @ view.counts / view.n)[:, None]
    own = view.means @ weights
    # in the rows' own precision and over all of them: an error of 1e-6 is nothing beside a standard error, a copy is
    products = (rows @ weights.to(rows.dtype))[index] - own.to(rows.dtype)[classes]
    ratio = float(exact.sum() / before.leverage[index[sample]].sum())
    return Leverages(
        shrinkage, shift, norms, before.leverage[index] * ratio, products, own - view.mean @ weights, classes
    )


def _slices(n: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, n)) for start in range(0, n, _CHUNK)]


def _about(rows: Tensor, classes: Tensor, means: Tensor, part: slice) -> Tensor:
    return rows[part].to(torch.float64, copy=True).sub_(means[classes[part]])


def _shrinkage(view: View, norms: Tensor) -> float:
    """Ledoit-Wolf shrinkage of the within-class covariance, from |x - mu|^2 of each row."""
    n, dim = view.n, view.dim
    mean_variance = view.within_trace / n / dim
    squared = view.within_squared / n**2
    delta = (squared - dim * mean_variance**2) / dim
    beta = (float(norms.square().mean()) - squared) / (dim * n)
    share = 1.0 if delta <= 0 else beta / delta
    return min(max(share, _LEAST_SHRINKAGE), 1 - _LEAST_SHRINKAGE)


def _shift(view: View, shrinkage: float) -> float:
    return shrinkage / (1 - shrinkage) * view.within_trace / view.dim
