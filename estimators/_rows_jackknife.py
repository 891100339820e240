"""Standard errors from delete-one-block replicates."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from estimators._rows import one_per_row
from estimators.compare import jackknife_stderr
from estimators.score import Score


def jackknife_blocks(blocks: Tensor | None, n: int, /) -> Tensor:
    """Return the block ids `[N]` re-indexed from 0, on the CPU; one block where none are given."""
    if blocks is None:
        return torch.zeros(n, dtype=torch.int64)
    return one_per_row(blocks.cpu() if isinstance(blocks, Tensor) else blocks, n, name="blocks")


def block_count(blocks: Tensor, /) -> int:
    """Return how many blocks can be deleted in turn: none where there is but one."""
    count = int(blocks.max()) + 1
    return count if count > 1 else 0


def jackknife_score(
    value: float,
    replicates: list[float],
    diagnostics: Mapping[str, float | int | bool | str],
    /,
    *,
    share_variance: float = 0.0,
    stderr: float | None = None,
) -> Score:
    """Return the score with the delete-one-block jackknife error of its replicates, or none where one is undefined.

    `share_variance` is what the draw of the class shares adds to the variance: blocks hold every class in equal parts,
    so that their replicates do not see it. Two models scored on the same images have it in common. `stderr` is an
    error that is known otherwise.
    """
    if len(replicates) < 2 or not bool(torch.isfinite(torch.tensor(replicates)).all()):
        return Score(value, None, diagnostics)
    if stderr is None:
        stderr = math.hypot(jackknife_stderr(replicates), math.sqrt(share_variance))
    return Score(value, stderr, diagnostics, tuple(replicates))


def share_variance(influence: Tensor, counts: Tensor, /) -> float:
    """Return the variance of a value under multinomial class counts, from its derivative by class share `[C]`."""
    shares = counts / counts.sum()
    centred = influence - (shares * influence).sum()
    return float((shares * centred.square()).sum() / counts.sum())


def delete_blocks(blocks: Tensor, value_of: Callable[[Tensor], float], /) -> list[float]:
    """Return `value_of(kept rows)` without each block in turn; NaN where the estimator is not defined without it."""
    return [value_of((blocks != b).nonzero().squeeze(1)) for b in range(block_count(blocks))]


def without_interactions(
    replicates: list[float], credits_: Tensor, deleted: list[Tensor], blocks: Tensor, /
) -> tuple[list[float], float]:
    """Draw replicates towards their mean until they spread as the value does.

    A block's deletion changes its own rows' share of the mean, and the credit of other rows that lose a neighbour. A
    jackknife counts the part of these changes that belongs to a pair of blocks twice, once from each (Efron and Stein,
    1981). The part is the residual of changes `[deleted block, changed block]` from an additive fit.

    Args:
        replicates: Values without each block.
        credits_: Each row's credit `[N]`, whose mean is the value.
        deleted: For each block, credits `[N]` without it; NaN on rows that were deleted.
        blocks: Block ids `[N]` of these rows.

    Returns:
        The replicates, and the factor they were drawn in by, in (0, 1].
    """
    n_blocks, n = len(replicates), credits_.numel()
    if n_blocks < 4 or not bool(torch.isfinite(torch.tensor(replicates)).all()):
        return replicates, 1.0
    change = torch.zeros(n_blocks, n_blocks, dtype=torch.float64)
    for b, row in enumerate(deleted):
        change[b].index_add_(0, blocks, torch.nan_to_num(row - credits_))
    off = 1.0 - torch.eye(n_blocks, dtype=torch.float64)
    mean = (change * off).sum() / off.sum()
    by_deleted, by_changed = torch.zeros(n_blocks, dtype=torch.float64), torch.zeros(n_blocks, dtype=torch.float64)
    for _ in range(20):  # the missing diagonal makes the fit iterative; it converges by (n_blocks - 1)^2 a round
        by_deleted = ((change - mean - by_changed) * off).sum(1) / (n_blocks - 1)
        by_changed = ((change - mean - by_deleted[:, None]) * off).sum(0) / (n_blocks - 1)
    residual = (change - mean - by_deleted[:, None] - by_changed) * off
    interaction = float(residual.square().sum()) / ((n_blocks - 1) ** 2 - n_blocks)
    sums = torch.zeros(n_blocks, dtype=torch.float64).index_add_(0, blocks, credits_)
    sizes = torch.bincount(blocks, minlength=n_blocks)
    fixed = jackknife_stderr(((sums.sum() - sums) / (n - sizes)).tolist()) ** 2
    full = jackknife_stderr(replicates) ** 2
    corrected = min(full, max(full - 0.5 * interaction * (n_blocks / n) ** 2, fixed))
    if full == 0:
        return replicates, 1.0
    factor = (corrected / full) ** 0.5
    centre = sum(replicates) / n_blocks
    return [centre + factor * (r - centre) for r in replicates], factor
