"""The Fréchet divergence between two sets of features of one model."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.errors import Degenerate, InvalidInput
from estimators.linalg import add_gram, symmetrise
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.shared import Options, Value, evaluate_case, make_case
from estimators.view import View

Variant = Literal["relative", "absolute"]

_NEAR_FROM = 1.5  # images a dimension from which the root of a replicate is carried to first order


def frechet(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None,
    reference: Tensor | ClassMoments,
    /,
    *,
    variant: Variant = "relative",
    blocks: Tensor | None = None,
) -> Score:
    r"""How far the target's features lie from a reference's, each set taken for a Gaussian.

    F = |mu - mu_r|^2 + tr(S) + tr(S_r) - 2 tr((S_r^1/2 S S_r^1/2)^1/2), the squared 2-Wasserstein distance of the two
    Gaussians (Bures metric), with biased covariances. The classes of either side do not matter.

    Args:
        features: Features of the target `[N, D]`, or moments of them.
        labels: Class ids `[N]`, or None where `features` are moments.
        reference: Features `[M, D]` of the same model on the reference set or on another dataset, or moments of them.
        variant: "relative" divides by the reference's total variance tr(S_r), so that the features' scale cancels;
            "absolute" is F.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates, for
            the target's images (the reference is taken as it is).

    Returns:
        Score >= 0, lower is closer. Two samples of one distribution are above zero by a bias of the order D/N.

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, widths differ.
        Degenerate: Constant features on either side.

    Reference:
        Dowson, Landau, "The Fréchet distance between multivariate normal distributions", Journal of Multivariate
        Analysis 12(3), 1982. As a divergence of features: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter, NeurIPS
        2017, arXiv:1706.08500.

    Notes:
        The trace of the root is the sum of the roots of the eigenvalues of L^T S L, for any L with S_r = L L^T: one
        Cholesky factor and eigenvalues alone, no matrix root. With a block left out and at least as many images as
        dimensions, the trace of the root is carried to first order from all images (its gradient is exact).
    """
    if isinstance(reference, Tensor):
        one_class = torch.zeros(reference.shape[0], dtype=torch.int64, device=reference.device)
        reference = ClassMoments.from_features(reference, one_class)
    if variant not in ("relative", "absolute"):
        raise InvalidInput(f"variant must be 'relative' or 'absolute', got {variant!r}")
    case = make_case(features, labels, blocks, rows=False)
    return evaluate_case(frechet_value, case, Options(variant=variant, reference=reference))


def frechet_value(view: View, options: Options, /) -> Value:
    """Fréchet divergence of a view from the reference of `options`."""
    reference = options.reference
    if reference is None:
        raise InvalidInput("the Fréchet divergence needs moments of a reference")
    if reference.dim != view.dim:
        raise InvalidInput(f"the reference is of another width: {reference.dim} and {view.dim}")
    variance = float(view.moments.std.square().sum())
    other = float(reference.std.square().sum())
    if variance == 0 or other == 0:
        raise Degenerate("constant features: every row is the same")
    gap = float((view.moments.mean - reference.mean).square().sum())
    squared = max(gap + variance + other - 2 * _root_trace(view, reference), 0.0)
    relative = (options.variant or "relative") == "relative"
    return squared / other if relative else squared, {
        "variant": "relative" if relative else "absolute",
        "squared_distance": squared,
        "between_means": gap,
        "reference_variance": other,
    }


def _root_trace(view: View, reference: ClassMoments) -> float:
    """tr((S_r^1/2 S S_r^1/2)^1/2)."""
    if view.moments.rows is not None:
        return _root_trace_of_rows(view, view.moments.rows, reference)
    if view.parent is not None and view.n >= _NEAR_FROM * view.dim:
        return _root_trace_near(view, view.parent, reference)
    root = None if view.parent is None else view.parent.memo.get("frechet:root")
    root = root if isinstance(root, Tensor) else _root(reference)
    if view.row_blocks is not None:  # blocks will be left out
        view.memo["frechet:root"] = root
        if view.n >= 1.2 * _NEAR_FROM * view.dim:
            return _value_and_gradient(view, reference)[0]
    return float(torch.linalg.eigvalsh(_between_roots(view, root)).clamp_min(0).sqrt().sum())


def _root_trace_of_rows(view: View, rows: Tensor, reference: ClassMoments) -> float:
    """The same from fewer rows than dimensions: singular values of the centred rows times L."""
    parent = view if view.parent is None else view.parent
    mapped = parent.memo.get("frechet:mapped")
    if not isinstance(mapped, Tensor):
        source = rows if parent is view else parent.moments.rows
        if source is None:
            raise InvalidInput("these moments keep neither rows nor a scatter")
        mapped = (source.to(torch.float64) - parent.moments.mean) @ _root(reference)
        parent.memo["frechet:mapped"] = mapped
    own = mapped if view.kept is None else mapped[view.kept]
    own = own - own.mean(0)
    values = torch.linalg.eigvalsh(own @ own.T / own.shape[0])
    return float(values.clamp_min(0).sqrt().sum())


def _root_trace_near(view: View, parent: View, reference: ClassMoments) -> float:
    """First order from the parent."""
    value, gradient = _value_and_gradient(parent, reference)
    return 0.5 * value + view.total_inner(gradient) / view.n


def _value_and_gradient(view: View, reference: ClassMoments) -> tuple[float, Tensor]:
    """tr(M^1/2) and 1/2 L M^-1/2 L^T, for M = L^T S L: d tr(M^1/2) is the latter's product with dS. Once a view."""
    known = view.memo.get("frechet:gradient")
    if isinstance(known, tuple):
        return known
    root = view.memo.get("frechet:root")
    root = root if isinstance(root, Tensor) else _root(reference)
    values, vectors = torch.linalg.eigh(_between_roots(view, root))
    kept = values > view.n * 2.2e-16 * values[-1]
    mapped = (root @ vectors[:, kept]).div_(values[kept] ** 0.25)
    gradient = torch.zeros(view.dim, view.dim, dtype=torch.float64, device=mapped.device)
    add_gram(gradient, mapped.T, 0.5)
    found = (float(values.clamp_min(0).sqrt().sum()), symmetrise(gradient))
    view.memo["frechet:gradient"] = found
    return found


def _root(reference: ClassMoments) -> Tensor:
    """L with L L^T the reference's covariance: as many columns as rows are kept, or D."""
    if reference.rows is not None:
        thin: Tensor = (reference.rows.to(torch.float64) - reference.mean).T / reference.n**0.5
        return thin
    covariance = reference.total_scatter() / reference.n
    factor, info = torch.linalg.cholesky_ex(covariance)
    if int(info) == 0:
        cholesky: Tensor = factor
        return cholesky
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp_min(0.0).sqrt()
    return root


def _between_roots(view: View, root: Tensor) -> Tensor:
    """L^T S L up to rounding, its lower triangle being what the eigensolvers read."""
    return root.T @ (view.total @ root) / view.n
