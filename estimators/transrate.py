"""TransRate: how many fewer bits the features take once the classes are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.errors import Degenerate, InvalidInput
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.shared import SLOPES, Options, Value, evaluate_case, make_case
from estimators.view import View

_DISTORTION = 1e-4
_PERMUTATIONS = 20
_SHARES = (1, 2, 4, 5, 10, 20)  # every such class of a permutation is looked at: each divides the permutations
_SMALL = 1e-6  # of the norm: to a smaller shift, rounding adds something
_BUDGET = 2.5e9  # multiplications spent on the permutations' Gram matrices, before classes are skipped
_CHUNK = 4096
_SEED = 20230308

Variant = Literal["corrected", "trace", "published"]


def transrate(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None = None,
    /,
    *,
    variant: Variant = "corrected",
    blocks: Tensor | None = None,
) -> Score:
    r"""Coding rate of the features less that of each class: what labels tell about features, at a fixed distortion.

    R(Z) = 1/2 log det(I + Z^T Z / (n eps)), eps = 1e-4, for n rows Z centred by the mean of all and divided by the root
    of their total sum of squares; the value is built of R(Z) - sum_c n_c/N R(Z_c).

    Args:
        features: Features `[N, D]`, float32 or float64, finite. Moments serve while they keep their rows (N < D).
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        variant: "trace" is the formula above. "corrected" subtracts what labels dealt at random would get, so that
            noise scores zero at any width. "published" is the other definition in use: no division by the sum of
            squares, every class weighted 1/C.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in nats, higher is better; 0 without signal ("corrected").

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, an unknown variant, moments without rows.
        Degenerate: One class; constant features.

    Reference:
        Huang, Huang, Rong, Yang, Wei, "Frustratingly Easy Transferability Estimation", ICML 2022, arXiv:2106.09362.

    Notes:
        Two incompatible definitions are in use; this is the one that does not depend on the features' scale and weights
        classes by their size. Its value on noise depends on D (5.8 at 64 and 9.5 at 1024 in the other one), hence the
        correction: R(Z) cancels, and what remains is the mean rate of the classes under 20 fixed permutations less that
        of the classes. On large sets every second to twentieth class of a permutation is looked at, each class equally
        often. A random subset's rate is set right to first order for its share of the sum of squares, whose mean over
        permutations is known. Permutations act on rows ordered by distance from the mean, so that the order in which
        rows come does not matter. Each rate is computed on the smaller side of its Gram matrix.
    """
    if variant not in ("corrected", "trace", "published"):
        raise InvalidInput(f"variant must be 'corrected', 'trace' or 'published', got {variant!r}")
    case = make_case(features, labels, blocks, rows=True)
    return evaluate_case(transrate_value, case, Options(variant=variant))


def transrate_value(view: View, options: Options, /) -> Value:
    """TransRate of a view, in the variant of `options` ("corrected" where none is named)."""
    view.require_classes()
    view.require_spread()
    variant = options.variant or "corrected"
    rates = _rates(view, variant)
    if variant == "corrected":
        if rates.slopes is not None:
            view.memo[SLOPES] = rates.slopes
        return rates.null - rates.classes, {"variant": variant, "null": rates.null, "of_classes": rates.classes}
    whole = _rate_of_all(view, variant)
    return whole - rates.classes, {"variant": variant, "of_all": whole, "of_classes": rates.classes}


@dataclass(frozen=True, slots=True)
class _Rates:
    """Mean rate of the classes, and of random subsets as large; of all rows, with the slopes of their difference."""

    classes: float
    null: float
    slopes: Tensor | None = None


def _scale(view: View, variant: str) -> float:
    return 1.0 if variant == "published" else 1.0 / (float(view.moments.std.square().sum()) * view.n)


def _rate_of_all(view: View, variant: str) -> float:
    """R(Z) from the factored scatter: log det(T + s) - r log s."""
    shift = view.n * _DISTORTION / _scale(view, variant)
    if shift < _SMALL * view.form.norm:  # rows about their mean leave an eigenvalue of 0, which rounds to something
        values = view.form.eigenvalues()
        cut = max(view.n, view.dim) * torch.finfo(torch.float64).eps * float(values[-1])
        return 0.5 * float((values[values > cut] / shift).log1p().sum())
    _, logdet = next(view.half_solved([shift]))
    return 0.5 * (float(logdet) - view.form.size * math.log(shift))


def _rates(view: View, variant: str) -> _Rates:
    """Rates of a view; those with a block left out were computed with the whole, while each Gram matrix was there."""
    origin = view if view.parent is None else view.parent
    key = f"transrate:{variant}"
    table = origin.memo.get(key)
    if not isinstance(table, dict):
        table = _table(origin, variant)
        origin.memo[key] = table
    if view.parent is None:
        block = -1
    else:
        if view.kept is None or origin.row_blocks is None:
            raise InvalidInput("a block cannot be left out of rows whose blocks are not known")
        block = int(origin.row_blocks[~view.kept][0])
    found = table[block]
    if not isinstance(found, _Rates):
        raise Degenerate("no class has any image once the block is left out")
    return found


@dataclass(frozen=True, slots=True, eq=False)
class _Masked:
    """All rows, and then those left without each block.

    Attributes:
        offsets: Their means `[B + 1, D]` about the mean of all.
        scales: What squares are multiplied by `[B + 1]`.
        rows: How many they are `[B + 1]`.
        squares: The left out rows' share `[B + 1]` of the sum of squares about the mean of all.
    """

    offsets: Tensor
    scales: Tensor
    rows: Tensor
    squares: Tensor


def _table(view: View, variant: str) -> dict[int, _Rates]:
    rows, classes = view.rows()
    n, counts = view.n, view.counts
    blocks = view.row_blocks
    numbers = [] if blocks is None else torch.unique(blocks).tolist()
    mean = view.moments.mean if rows is view.features else rows.mean(0, dtype=torch.float64)
    masks = [torch.ones(n, dtype=torch.bool, device=rows.device)]
    masks += [blocks != b for b in numbers] if blocks is not None else []
    distances = _distances(rows, mean)
    centres, squares, kept_squares = [mean.new_zeros(mean.shape)], [float(distances.sum())], [float(distances.sum())]
    for mask in masks[1:]:
        # the rows' sums about the mean of all are zero, so those of what is kept are minus those of what is not
        left = int(mask.sum())
        centre = (mean * (n - left) - rows[~mask].sum(0, dtype=torch.float64)) / left
        centres.append(centre)
        kept_squares.append(float(distances[mask].sum()))
        squares.append(kept_squares[-1] - left * float(centre @ centre))
    keep = torch.stack(masks)
    masked = _Masked(
        torch.stack(centres),
        mean.new_tensor([1.0] * len(masks) if variant == "published" else [1.0 / square for square in squares]),
        keep.sum(1).to(torch.float64),
        1.0 - mean.new_tensor(kept_squares) / kept_squares[0],
    )
    order = classes.argsort(stable=True)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int64).tolist()
    groups = [order[starts[c] : starts[c + 1]] for c in range(view.n_classes)]

    def mean_rate(subsets: list[Tensor], *, by_size: bool, corrected: bool) -> tuple[Tensor, Tensor]:
        """The mean of the subsets' rates with each mask, and its slopes."""
        found, slopes = [], []
        for at in subsets:
            z = rows[at].to(torch.float64) - mean
            rates, slope = _subset_rates(z, keep[:, at], masked, corrected=corrected)
            found.append(rates)
            slopes.append(slope)
        sizes = torch.stack([keep[:, at].sum(1) for at in subsets]).to(torch.float64)
        weights = sizes if by_size else (sizes > 0).to(torch.float64)
        table = torch.stack(found)
        averaged: Tensor = (weights * table).sum(0) / weights.sum(0)
        # a block's weight moves each subset's rate, and its size
        share = (sizes[:, :1] - sizes[:, 1:]) * (table[:, :1] - averaged[0]) if by_size else 0.0
        along = (weights[:, :1] * torch.stack(slopes) + share).sum(0) / weights[:, 0].sum()
        return averaged, along

    of_classes, slopes = mean_rate(groups, by_size=variant != "published", corrected=False)
    null = torch.zeros_like(of_classes)
    if variant == "corrected":
        subsets = _random_subsets(distances, rows.shape[1], counts)
        null, of_null = mean_rate(subsets, by_size=True, corrected=True)
        slopes = of_null - slopes
    pairs = zip(of_classes.tolist(), null.tolist(), strict=True)
    table = {block: _Rates(*pair) for block, pair in zip([-1, *numbers], pairs, strict=True)}
    if numbers and variant == "corrected":
        table[-1] = replace(table[-1], slopes=slopes)
    return table


def _distances(rows: Tensor, mean: Tensor) -> Tensor:
    """Squared distance of each row from the mean `[N]`."""
    starts = range(0, rows.shape[0], _CHUNK)
    return torch.cat([(rows[i : i + _CHUNK].to(torch.float64) - mean).square_().sum(1) for i in starts])


def _random_subsets(distances: Tensor, dim: int, counts: Tensor) -> list[Tensor]:
    """Rows that permuted labels put into a class, for the classes looked at of each permutation."""
    ordered = distances.argsort(stable=True)
    sizes = counts.to(torch.int64).sort().values
    work = _PERMUTATIONS * float(torch.minimum(counts, counts.new_tensor(dim)) @ counts) * dim
    step = next((share for share in _SHARES if work / share <= _BUDGET), _SHARES[-1])
    ends = sizes.cumsum(0).tolist()
    generator = torch.Generator().manual_seed(_SEED)
    drawn = []
    for k in range(_PERMUTATIONS):
        permuted = ordered[torch.randperm(distances.shape[0], generator=generator).to(distances.device)]
        chosen = range(k % min(step, len(ends)), len(ends), step)
        drawn += [permuted[ends[c] - int(sizes[c]) : ends[c]] for c in chosen]
    return drawn


def _subset_rates(z: Tensor, keep: Tensor, masked: _Masked, *, corrected: bool) -> tuple[Tensor, Tensor]:
    """R of the rows z with each mask of `keep`, on the smaller side of its Gram matrix; and slopes.

    The scales divide by the sum of squares of all rows; if `corrected`, R is set right to first order for this subset's
    sum of squares being another than its share of that. The slopes `[B]` are the derivatives of R without a mask in the
    weights of the blocks that the other masks leave out.
    """
    factors = masked.scales / (keep.sum(1).clamp_min(1).to(torch.float64) * _DISTORTION)
    across = (z @ masked.offsets.T).T
    if z.shape[0] > z.shape[1]:
        values, traces, leverage, pull = _rates_of_columns(z, keep, masked.offsets, factors)
    else:
        gram = z @ z.T - across[:, :, None] - across[:, None, :] + masked.offsets.square().sum(1)[:, None, None]
        # a row that is left out becomes a row of zeros, which adds nothing to log det(I + G)
        mask = keep.to(torch.float64)
        gram = gram * mask[:, :, None] * mask[:, None, :] * factors[:, None, None]
        traces = gram.diagonal(dim1=1, dim2=2).sum(1)
        values, factor = _log_rates(gram)
        inverse = torch.cholesky_inverse(factor)
        leverage, pull = 1.0 - inverse.diagonal(), inverse.sum(1)
    left_out = (~keep[1:]).to(torch.float64)
    # how the mean of all moves with the weight of a block, along each row
    drift = -across[1:] * (masked.rows[1:] / masked.rows[0])[:, None]
    log_factor = -masked.squares[1:] - left_out.sum(1) / z.shape[0]
    slopes = 0.5 * (left_out @ leverage - 2 * factors[0] * drift @ pull + log_factor * leverage.sum())
    if not corrected:
        return values, slopes
    # d R / d log(sum of squares) = 1/2 tr(G (I + G)^-1), and the mean of tr G over permutations is 1/(N eps); any
    # factor keeps the mean right, so the whole subset's serves with blocks left out as well
    elasticity = 0.5 * float(leverage.sum())
    excess = traces * masked.rows * _DISTORTION
    norms = factors[0] * z.square().sum(1)
    trace_slopes = left_out @ norms - 2 * factors[0] * drift.sum(1) + log_factor * traces[0]
    excess_slopes = excess[0] * (trace_slopes / traces[0] + 1.0 - masked.rows[1:] / masked.rows[0])
    return values - elasticity * (excess - 1.0), slopes - elasticity * excess_slopes


def _rates_of_columns(
    z: Tensor, keep: Tensor, offsets: Tensor, factors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for more rows than dimensions, one mask at a time: the matrices are as wide as the features.

    Returns:
        R and tr G with each mask; the diagonal of G (I + G)^-1 and the row sums of (I + G)^-1 without a mask.
    """
    gram, total = z.T @ z, z.sum(0)
    values, traces = [], []
    leverage = pull = z.new_zeros(0)
    for i, factor in enumerate(factors):
        left = z[~keep[i]]
        n = z.shape[0] - left.shape[0]
        cross = torch.outer(total - left.sum(0), offsets[i])
        matrix = (gram - left.T @ left - cross - cross.T + n * torch.outer(offsets[i], offsets[i])) * factor
        rates, lower = _log_rates(matrix[None])
        values.append(rates)
        traces.append(matrix.trace())
        if i == 0:
            half = torch.linalg.solve_triangular(lower, z.T, upper=False)
            leverage = factor * half.square().sum(0)
            pull = 1.0 - factor * (half.T @ half.sum(1))
    return torch.cat(values), torch.stack(traces), leverage, pull


def _log_rates(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """1/2 log det(I + G) of each matrix `[B, n, n]`, NaN where it has none, and the Cholesky factor of the first."""
    identity = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
    factor, info = torch.linalg.cholesky_ex(matrices + identity)
    values: Tensor = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return torch.where(info == 0, values, math.nan), factor[0]
