"""LogME: the evidence of a linear model from features to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.errors import Degenerate, InvalidInput
from estimators.evidence_curve import Terms, maximise, maximise_near
from estimators.linalg import gram
from estimators.logme_published import logme_published
from estimators.logme_targets import logme_targets
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.shared import Options, Value, evaluate_case, make_case
from estimators.shifted import ShiftedForm
from estimators.view import View

_ROUNDING = 1e-15
_FAR = 1e3  # squared distance from the origin, in units of the spread: its digits are kept apart from here on
_MANY_CLASSES = 0.1  # of the dimensions: from here on C x C systems cost more than one more factorisation


def logme(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None = None,
    /,
    *,
    variant: Literal["exact", "published"] = "exact",
    blocks: Tensor | None = None,
) -> Score:
    r"""Log of maximum evidence: how well a linear model with a learnt prior explains the labels.

    Each class's indicator t is modelled as t ~ N(X m, 1/beta), m ~ N(0, 1/alpha); the evidence of (alpha, beta),

        log p(t | X) = D/2 log alpha + N/2 log beta - 1/2 log|alpha I + beta X^T X| - beta/2 |X m - t|^2
                       - alpha/2 |m|^2 - N/2 log 2 pi,

    is maximised over both, divided by N, and averaged over the classes. It rewards features from which the labels
    follow linearly, and charges for the flexibility it takes.

    Args:
        features: Features `[N, D]`, float32 or float64, finite; or moments of them.
        labels: Class ids `[N]` (any integers); float targets `[N]` for regression; 0/1 indicators `[N, K]` for
            multi-label. None where `features` are moments.
        variant: "exact" maximises the evidence. "published" is the authors' fixed point with its eleven rounds, its
            epsilons and its missing term where N < D: for comparison with papers, never to rank models.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in nats per image, higher is better. Without signal it is about the mean log likelihood of the indicators
        under one Gaussian (-0.27 for ten balanced classes). Not bounded: it grows as the fit becomes exact.

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, an unknown variant.
        Degenerate: One class; constant features; features that fit a label exactly at every tau.

    Reference:
        You, Liu, Wang, Long, "LogME: Practical Assessment of Pre-trained Models for Transfer Learning", ICML 2021,
        arXiv:2102.11005.

    Notes:
        The published code sums k = min(N, D) of the D terms of log alpha when N < D and so adds (D - k)/(2N) log alpha:
        on noise with N = 200 that is worth 6 nats at D = 512 and 103 at D = 4096. It also stops after eleven rounds
        from alpha = beta = 1 with 1e-5 added to two denominators, which makes it depend on the features' scale, and
        counts an empty class for every label id that is skipped. Here tau = alpha/beta is found exactly and beta
        is closed form: the value does not change with the scale of the features, the order or the names of classes.
        The evidence of exactly repeated rows with equal labels grows without bound as tau vanishes when N < D; the
        value is then that of the largest maximum at positive tau, and `unbounded` counts the classes this holds for.
        Features are not centred, as in the paper: a constant added to all of them changes the value.
    """
    if variant == "published":
        return logme_published(features, labels)
    if variant != "exact":
        raise InvalidInput(f"variant must be 'exact' or 'published', got {variant!r}")
    if isinstance(features, Tensor) and labels is not None and (labels.ndim == 2 or labels.dtype.is_floating_point):
        return logme_targets(features, labels, blocks=blocks)
    return evaluate_case(logme_value, make_case(features, labels, blocks, rows=False), Options())


def logme_value(view: View, options: Options, /) -> Value:
    """LogME of a view; starts from the parent's maxima where a block is left out."""
    return evidence_of_means(view, None, "logme")


def evidence_of_means(view: View, mixing: Tensor | None, key: str) -> Value:
    """LogME of a view whose class means M are replaced by `mixing @ M` (the within-class scatter stays)."""
    view.require_classes()
    view.require_spread()
    if view.compressed:
        terms, norm, largest = _dual_terms(view, mixing)
    elif mixing is None:
        terms, norm, largest = _total_terms(view)
    elif view.n_classes > _MANY_CLASSES * view.dim:
        terms, norm, largest = _many_terms(view, mixing)
    else:
        terms, norm, largest = _primal_terms(view, mixing)
    start = view.parent.memo.get(key) if view.parent is not None else None
    if isinstance(start, tuple) and start:
        return float(maximise_near(terms, view.counts, view.n, start).mean()), {}
    size = view.n if view.compressed else view.dim
    found = maximise(terms, view.counts, view.n, smallest=norm, largest=largest, size=size)
    if not bool(found.values.isfinite().all()) or bool(found.log_tau.isneginf().any()):
        raise Degenerate("the features fit the labels exactly: the evidence has no maximum")
    view.memo[key] = found.cells
    diagnostics: Mapping[str, float | int | bool | str] = {
        "variant": "exact",
        "n_classes": view.n_classes,
        "no_signal": int(found.log_tau.isposinf().sum()),
        "unbounded": found.unbounded,
        "smallest_class": int(view.counts.min()),
    }
    return float(found.values.mean()), diagnostics


def _total_terms(view: View) -> tuple[Terms, float, float]:
    """The evidence's terms from the factored total scatter T, and norms of W and of S = T + N m m^T.

    X^T t_c = n_c mu_c, so q_c = n_c - n_c^2 mu_c^T (S + tau)^-1 mu_c. In the metric U = (T + tau)^-1, with m the mean
    and d_c = mu_c - m, the quadratic is |d_c|^2 + 1/N - N (d_c . m - 1/N)^2 / (1 + N |m|^2), whatever the size of m.
    """
    n, counts = view.n, view.counts
    other, smallest, _ = _primal_terms(view, None)

    def from_total(taus: Sequence[float]) -> tuple[Tensor, Tensor]:
        squares, products, logdet = view.norms(taus)
        across = products[:, :-1] / counts.sqrt()
        size = 1 + n * squares[:, -1]
        rest = counts * (1 / n - n * (across - 1 / n).square() / size[:, None])
        return 1 - squares[:, :-1] - rest, logdet + size.log()

    def terms(taus: Sequence[float]) -> tuple[Tensor, Tensor]:
        try:
            shares, logdet = from_total(taus)
            if float(shares.min()) < view.least_share and view.form.rough:
                view.refine()
                shares, logdet = from_total(taus)
        except Degenerate:
            return other(taus)
        if float(shares.min()) < view.least_share:
            return other(taus)
        tau = torch.tensor(taus, dtype=torch.float64, device=counts.device)
        return (counts * shares).log(), logdet - view.form.size * tau.log()

    return terms, smallest, view.form.norm + n * float(view.mean.square().sum())


def _primal_terms(view: View, mixing: Tensor | None) -> tuple[Terms, float, float]:
    """The same from inverses of the within-class scatter, exact however little the features leave of the labels.

    With F the rows sqrt(n_c) mu_c and G = F (W + tau I)^-1 F^T, S = W + F^T F: log det(S + tau) =
    log det(W + tau) + log det(I + G), and q_c = n_c [(I + G)^-1]_cc.
    """
    weights = view.counts.sqrt()
    mix = torch.diag(weights) if mixing is None else weights[:, None] * mixing
    identity = torch.eye(view.n_classes, dtype=torch.float64, device=weights.device)

    def terms(taus: Sequence[float]) -> tuple[Tensor, Tensor]:
        products, logdet = view.mean_products(taus)
        factor, info = torch.linalg.cholesky_ex(identity + mix @ products @ mix.T)
        if bool(info.any()):
            raise Degenerate("class means are not resolved at the working precision")
        inverse = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False)
        log_q = (view.counts * inverse.square().sum(1)).log()
        tau = torch.tensor(taus, dtype=torch.float64, device=weights.device)
        logdet = logdet + 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return log_q, logdet - view.form.size * tau.log()

    smallest = float((view.counts @ view.moments.variances).max())
    return terms, smallest, view.form.norm + float((mix @ view.means).square().sum())


def _many_terms(view: View, mixing: Tensor) -> tuple[Terms, float, float]:
    """The same for moved means from S itself, as `_total_terms`: one more factorisation, no C x C system.

    S = W + M^T A^T N A M with W = T - M^T (N - n n^T / N) M, N the counts: one product with the means M.
    """
    counts = view.counts
    scaled = counts.sqrt()[:, None] * (mixing @ view.means)
    moved = mixing.T @ (counts[:, None] * mixing) - torch.diag(counts) + torch.outer(counts, counts) / view.n
    form = ShiftedForm(torch.addmm(view.total, view.means.T, moved @ view.means))
    rotated = form.rotate(scaled.T)

    def terms(taus: Sequence[float]) -> tuple[Tensor, Tensor]:
        explained, logdet = form.quadratics(rotated, taus)
        shares = 1 - explained
        if bool((shares <= 1e-13).any()):
            raise Degenerate("class means are not resolved at the working precision")
        tau = torch.tensor(taus, dtype=torch.float64, device=rotated.device)
        return (view.counts * shares).log(), logdet - form.size * tau.log()

    return terms, float((view.counts @ view.moments.variances).max()), form.norm


def _dual_terms(view: View, mixing: Tensor | None) -> tuple[Terms, float, float]:
    """The same from the Gram matrix K of the rows, regular where W is not: q_c = tau t_c^T (K + tau I)^-1 t_c."""
    rows, classes = view.coordinates, view.row_classes
    if mixing is not None:
        rows = rows + (mixing @ view.means - view.means)[classes]
    mean = rows.mean(0)
    centred = rows - mean
    level, spread = view.n * float(mean.square().sum()), float(centred.square().sum())
    if level > _FAR * spread:
        return _far_terms(view, centred, mean, classes)
    form = ShiftedForm(gram(rows.T, rows.new_zeros(rows.shape[0])))
    rotated = form.rotate(torch.nn.functional.one_hot(classes, view.n_classes).to(torch.float64))

    def terms(taus: Sequence[float]) -> tuple[Tensor, Tensor]:
        explained, logdet = form.quadratics(rotated, taus)
        tau = torch.tensor(taus, dtype=torch.float64, device=rotated.device)
        return (tau[:, None] * explained).log(), logdet - form.size * tau.log()

    return terms, form.norm, form.norm


def _far_terms(view: View, centred: Tensor, mean: Tensor, classes: Tensor) -> tuple[Terms, float, float]:
    """The same where the mean m hides the rest: K less its part of rank two is the Gram matrix of centred rows X.

    In the metric U = (X X^T + tau)^-1, with k = X m, t centred and s = |m|^2 - |k|^2: q_c = tau [|t_c|^2 +
    (n_c/N - t_c . k)^2 / (s + tau/N)] and log det(K + tau) = log det(X X^T + tau) + log(1 + N s / tau).
    """
    n, shares = view.n, view.counts / view.n
    matrix = gram(centred.T, centred.new_zeros(n))
    # X leaves the direction of all ones an eigenvalue of 0: as large as the others, it is not lost in their rounding
    ones = float(matrix.trace()) / n
    form = ShiftedForm(matrix + ones / n)
    targets = torch.nn.functional.one_hot(classes, view.n_classes).to(torch.float64) - shares
    rotated = form.rotate(torch.cat([targets, (centred @ mean)[:, None]], 1))
    squared = float(mean.square().sum())

    def terms(taus: Sequence[float]) -> tuple[Tensor, Tensor]:
        squares, across, logdet = form.norms(rotated, taus)
        tau = torch.tensor(taus, dtype=torch.float64, device=rotated.device)
        out = (squared - squares[:, -1]).clamp_min(_ROUNDING * squared)
        beside = (shares - across[:, :-1]).square() / (out + tau / n)[:, None]
        log_q = (tau[:, None] * (squares[:, :-1] + beside)).log()
        logdet = logdet - (ones + tau).log() + (tau + n * out).log()
        return log_q, logdet - form.size * tau.log()

    return terms, form.norm, form.norm + n * squared
