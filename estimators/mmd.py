"""MMD: maximum mean discrepancy."""

import torch
from torch import Tensor

from estimators._rows import feature_rows, slices
from estimators._rows_jackknife import block_count, jackknife_blocks, jackknife_score
from estimators._rows_subset import subset
from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score

_MEDIAN_ROWS = 1000


def mmd(
    features: Tensor,
    reference_features: Tensor,
    /,
    *,
    max_rows: int = 5000,
    blocks: Tensor | None = None,
) -> Score:
    r"""How far the model's features of the target lie from its features of the reference set.

    $\mathrm{MMD}^2 = \tfrac{1}{n(n-1)} \sum_{i \ne i'} k(x_i, x_{i'}) + \tfrac{1}{m(m-1)} \sum_{j \ne j'}
    k(z_j, z_{j'}) - \tfrac{2}{nm} \sum_{i,j} k(x_i, z_j)$ with $k(a, b) = \exp(-\|a-b\|^2 / 2\sigma^2)$ and $\sigma^2$
    the median of $\|a-b\|^2$ over pairs of the pooled rows.

    Args:
        features: $x$, `[N, D]`, floating point, finite.
        reference_features: $z$, `[M, D]`, of the same model.
        max_rows: Beyond so many rows a side, a subsample of this size that does not depend on their order.
        blocks: Block number of each target row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        The unbiased squared discrepancy: at most 2, 0 on average between two samples of one distribution, and so
        sometimes below 0. Lower means nearer. `stderr` is the delete-one-image jackknife over target images at the
        kernel width of the whole (blocks, which may share out classes evenly, would miss the draw of the shares); the
        reference set is taken as given. Diagnostics: `bandwidth` ($\sigma$), `rows`,
        `reference_rows`, `subsampled`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity.
        Degenerate: Fewer than two rows a side, or more than half of all pairs of rows identical.

    Reference:
        A. Gretton, K. Borgwardt, M. Rasch, B. Schölkopf, A. Smola. A Kernel Two-Sample Test. JMLR 13, 2012.

    Notes:
        A fixed kernel width, as some model searches have it, makes the value depend on the scale of the features; the
        median does not. It is taken over pairs of up to 1000 rows a side. Swapping the two sides gives the same value.
    """
    if max_rows < 2:
        raise InvalidInput(f"max_rows must be at least 2, got {max_rows}")
    rows = feature_rows(features)
    others = feature_rows(reference_features, name="reference_features").to(rows.device)
    if rows.shape[1] != others.shape[1]:
        raise InvalidInput(f"features have {rows.shape[1]} columns, reference_features {others.shape[1]}")
    n_given, m_given = rows.shape[0], others.shape[0]
    if min(n_given, m_given) < 2:
        raise Degenerate("a discrepancy needs at least two rows a side")
    block = jackknife_blocks(blocks, n_given).to(rows.device)
    chosen = subset(rows, max_rows)
    block = torch.unique(block[chosen], return_inverse=True)[1]
    x, z = rows[chosen].to(torch.float64), others[subset(others, max_rows)].to(torch.float64)
    centre = (x.mean(0) + z.mean(0)) / 2
    x, z = x - centre, z - centre
    squared = _median_squared(x, z)
    n, m = x.shape[0], z.shape[0]
    within, across = _kernel_row_sums(x, x, squared), _kernel_row_sums(x, z, squared)
    reference = (float(_kernel_row_sums(z, z, squared).sum()) - m) / (m * (m - 1))
    inner, outer = float(within.sum()), float(across.sum())
    value = _discrepancy(inner, outer, n, m, reference)
    replicates: list[float] = []
    spread = 0.0
    if block_count(block):
        lone = (inner - 2 * within + 1 - (n - 1)) / ((n - 1) * max(n - 2, 1)) - 2 * (outer - across) / ((n - 1) * m)
        spread = float((lone - lone.mean()).square().sum()) * (n - 1) / n
        for b in range(block_count(block)):
            own = block == b
            left = n - int(own.sum())
            both = float(_kernel_row_sums(x[own], x[own], squared).sum())
            kept = inner - 2 * float(within[own].sum()) + both
            value_without = _discrepancy(kept, outer - float(across[own].sum()), left, m, reference)
            replicates.append(value_without)
    return jackknife_score(
        value,
        replicates,
        {
            "bandwidth": squared**0.5,
            "rows": n,
            "reference_rows": m,
            "subsampled": n < n_given or m < m_given,
        },
        stderr=spread**0.5,
    )


def _discrepancy(within: float, across: float, n: int, m: int, reference: float) -> float:
    if n < 2:
        return float("nan")
    return (within - n) / (n * (n - 1)) + reference - 2 * across / (n * m)


def _kernel_row_sums(a: Tensor, b: Tensor, squared: float) -> Tensor:
    """Return the sum of the kernel over the rows of b for each row of a `[n]`."""
    sums = torch.empty(a.shape[0], dtype=torch.float64, device=a.device)
    for part in slices(a.shape[0], 1024):
        sums[part] = torch.exp(_distances(a[part], b) / (-2 * squared)).sum(1)
    return sums


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)


def _median_squared(x: Tensor, z: Tensor) -> float:
    pooled = torch.cat([x[subset(x, _MEDIAN_ROWS)], z[subset(z, _MEDIAN_ROWS)]])
    i, j = torch.triu_indices(pooled.shape[0], pooled.shape[0], 1, device=x.device)
    distances = _distances(pooled, pooled)[i, j]
    median = float(distances.median())
    if median <= float(pooled.square().sum(1).max()) * 1e-12:
        raise Degenerate("more than half of all pairs of rows are identical: the kernel has no width")
    return median
