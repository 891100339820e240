"""H-score: how much of the features' variance lies between the classes."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.errors import Degenerate, InvalidInput
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.shared import Options, Value, evaluate_case, make_case
from estimators.view import View

Variant = Literal["corrected", "published", "plain"]


def h_score(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None = None,
    /,
    *,
    variant: Variant = "corrected",
    blocks: Tensor | None = None,
) -> Score:
    r"""Between-class variance of the features, in units of their (shrunk) covariance.

    H_a = tr(S_a^-1 (1 - a) cov(g)), where g replaces each row by its class mean, S_a = (1 - a) S + a tr(S)/D I is the
    Ledoit-Wolf estimate of the features' covariance and a its shrinkage.

    Args:
        features: Features `[N, D]`, float32 or float64, finite; or moments of them.
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        variant: "published" is H_a. "corrected" subtracts what labels dealt at random would get, so that noise scores
            zero at any width. "plain" has no shrinkage.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score, higher is better: 0 without signal ("corrected"), at most C - 1 up to a factor N/(N - 1). The value grows
        with the number of classes: it compares models on one dataset, never datasets.

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, an unknown variant.
        Degenerate: One class; constant features; "plain" with N <= D + C, where it is C - 1 for any features.

    Reference:
        Bao, Li, Huang, Zhang, Zheng, Zamir, Guibas, "An Information-Theoretic Approach to Transferability in Task
        Transfer Learning", ICIP 2019, arXiv:2212.10082. Shrinkage: Ibrahim, Ponomareva, Mazumder, "Newer is not always
        better", 2022, arXiv:2110.06893; Ledoit, Wolf, "A well-conditioned estimator for large-dimensional covariance
        matrices", Journal of Multivariate Analysis 88(2), 2004.

    Notes:
        cov(g) has N - 1 in its denominator and S has N, as in the published code. The mean of H_a over all permutations
        of the labels has a closed form, (C - 1) N/(N - 1)^2 (1 - a) tr(S_a^-1 S), so none is drawn. Without the
        correction noise of 200 images in ten classes scores 0.03 at D = 64 and 0.4 at D = 1024.
        The shrinkage is exact from moments: it needs the sum of |x|^4 about the mean, which they carry.
    """
    if variant not in ("corrected", "published", "plain"):
        raise InvalidInput(f"variant must be 'corrected', 'published' or 'plain', got {variant!r}")
    case = make_case(features, labels, blocks, rows=False)
    return evaluate_case(h_score_value, case, Options(variant=variant))


def h_score_value(view: View, options: Options, /) -> Value:
    """H-score of a view, in the variant of `options` ("corrected" where none is named)."""
    view.require_classes()
    view.require_spread()
    variant = options.variant or "corrected"
    n, n_classes = view.n, view.n_classes
    if variant == "plain":
        if n <= view.dim + n_classes:
            raise Degenerate(f"plain H-score is {n_classes - 1} for any features when N <= D + C (N={n}, D={view.dim})")
        return _plain(view), {"variant": variant, "shrinkage": 0.0}
    shrinkage, mean_variance = ledoit_wolf(view)
    if shrinkage >= 1:
        return 0.0, {"variant": variant, "shrinkage": 1.0, "null": 0.0, "uncorrected": 0.0}
    shift = shrinkage * mean_variance * n / (1 - shrinkage)
    explained, trace = _explained(view, shift)
    value = explained * n / (n - 1)
    null = (n_classes - 1) * n / (n - 1) ** 2 * trace
    kept = value - null if variant == "corrected" else value
    return kept, {"variant": variant, "shrinkage": shrinkage, "null": null, "uncorrected": value}


def ledoit_wolf(view: View, /) -> tuple[float, float]:
    """The Ledoit-Wolf shrinkage of the total covariance towards its mean variance, and that mean variance."""
    n, dim = view.n, view.dim
    mean_variance = float(view.moments.std.square().mean())
    squared = view.form.squared / n**2
    delta = (squared - dim * mean_variance**2) / dim
    beta = (view.quartic / n - squared) / (dim * n)
    if dim == 1:  # it is its own mean
        return 0.0, mean_variance
    if delta <= 0:
        return 1.0, mean_variance
    return min(max(beta / delta, 0.0), 1.0), mean_variance


def _plain(view: View) -> float:
    """tr(S^+ B): of the directions in which features do not vary, or only repeat others, nothing counts."""
    values, vectors = torch.linalg.eigh(view.total)
    kept = values > max(view.n, view.dim) * torch.finfo(torch.float64).eps * values[-1]
    return float(((view.offsets @ vectors[:, kept]).square() / values[kept]).sum())


def _explained(view: View, shift: float) -> tuple[float, float]:
    """tr((S + shift)^-1 B) and tr((S + shift)^-1 S), for the total scatter S and the between-class scatter B."""
    squares, _, _ = view.norms([shift])
    explained = float(squares[0, :-1].sum())
    rank = view.form.size
    return explained, rank - shift * view.form.inverse_trace(shift) if shift else float(rank)
