"""Standard errors from delete-one-block replicates."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from estimators._rows import one_per_row
from estimators.compare import jackknife_stderr
from estimators.score import Score

_TAKEN_OUT = 0.85  # at 1, halves of real sets differed by a little more than stated; at 0.75 by less
_OF_SLOPES = 0.4  # at 1/2, halves of 250 images of real sets differed by a fifth more than stated


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
    stderr: float | None = None,
) -> Score:
    """Return the score with the delete-one-block jackknife error of its replicates, or none where one is undefined.

    `stderr` is an error that is known otherwise.
    """
    if len(replicates) < 2 or not bool(torch.isfinite(torch.tensor(replicates)).all()):
        return Score(value, None, diagnostics)
    return Score(value, jackknife_stderr(replicates) if stderr is None else stderr, diagnostics, tuple(replicates))


def delete_blocks(blocks: Tensor, value_of: Callable[[Tensor], float], /) -> list[float]:
    """Return `value_of(kept rows)` without each block in turn; NaN where the estimator is not defined without it."""
    return [value_of((blocks != b).nonzero().squeeze(1)) for b in range(block_count(blocks))]


def without_interactions(
    replicates: list[float], credits_: Tensor, deleted: list[Tensor], blocks: Tensor, /
) -> tuple[list[float], float]:
    """Draw replicates towards their mean until they spread as the value does (see `drawn_in`).

    Args:
        replicates: Values without each block.
        credits_: Each row's credit `[N]`, whose mean is the value.
        deleted: For each block, credits `[N]` without it; NaN on rows that were deleted.
        blocks: Block ids `[N]` of these rows.

    Returns:
        The replicates, and the factor they were drawn in by, in (0, 1].
    """
    changes = [changes_by_block(torch.nan_to_num(row - credits_), blocks, len(replicates)) for row in deleted]
    return drawn_in(replicates, changes, credits_, blocks)


def changes_by_block(change: Tensor, blocks: Tensor, n_blocks: int, /) -> Tensor:
    """Sum the changes of rows' credits `[N]` over each block `[n_blocks]`."""
    return torch.zeros(n_blocks, dtype=torch.float64, device=change.device).index_add_(0, blocks, change)


def drawn_in(
    replicates: list[float], changes: list[Tensor], credits_: Tensor, blocks: Tensor, /
) -> tuple[list[float], float]:
    """Draw replicates of a mean of credits towards their mean until they spread as the value does.

    A block's deletion changes its own rows' share of the mean, and the credit of rows in other blocks. What two blocks
    do to each other's credits beyond what each does to all is their interaction; a jackknife counts its variance twice
    (Efron and Stein, The jackknife estimate of variance, Annals of Statistics 9(3), 1981), and most of once is taken
    out: a pair's interaction as measured holds its part in those of three and more as well. What the credits spread by
    themselves is kept at least.

    Args:
        replicates: Values without each block.
        changes: For each block, the change of the sum of credits of every block `[B]` once it is deleted.
        credits_: Each row's credit `[N]`.
        blocks: Block ids `[N]` of these rows.

    Returns:
        The replicates, and the factor they were drawn in by, in (0, 1].
    """
    n_blocks, n = len(replicates), credits_.numel()
    if n_blocks < 4 or not bool(torch.isfinite(torch.tensor(replicates)).all()):
        return replicates, 1.0
    full = jackknife_stderr(replicates) ** 2
    if full == 0:
        return replicates, 1.0
    off = 1.0 - torch.eye(n_blocks, dtype=torch.float64)
    table = torch.stack(changes).cpu()
    pairs = (table + table.T) * off
    mean = float(pairs.sum()) / (n_blocks * (n_blocks - 1))
    by_block = (pairs.sum(1) - (n_blocks - 1) * mean) / (n_blocks - 2)
    residual = (pairs - mean - by_block[:, None] - by_block) * off
    # of n_blocks (n_blocks - 1)/2 pairs, n_blocks are spent on the fit
    of_a_pair = float(residual.square().sum()) / (n_blocks * (n_blocks - 3))
    interactions = 0.5 * n_blocks * (n_blocks - 1) * of_a_pair / n**2
    sums = changes_by_block(credits_, blocks, n_blocks).cpu()
    sizes = torch.bincount(blocks, minlength=n_blocks).cpu()
    fixed = jackknife_stderr(((sums.sum() - sums) / (n - sizes)).tolist()) ** 2
    factor = (min(full, max(full - _TAKEN_OUT * interactions, fixed)) / full) ** 0.5
    centre = sum(replicates) / n_blocks
    return [centre + factor * (r - centre) for r in replicates], factor


def drawn_to_slopes(replicates: list[float], slopes: list[float], /) -> tuple[list[float], float]:
    """Draw replicates towards their mean until their error is a weighted geometric mean of two.

    Where the value is strongly curved in the class moments, the deletion of a block moves it by more than a draw of
    images does, and its derivative in the block's weight (the infinitesimal jackknife: Efron, The Jackknife, the
    Bootstrap and Other Resampling Plans, SIAM 1982, ch. 6) by less. Differences of halves of real sets lay between the
    two, nearer to the deletion.

    Args:
        replicates: Values without each block.
        slopes: Derivative of the value in each block's weight.

    Returns:
        The replicates, and the factor they were drawn in by, in [0.5, 1].
    """
    if not all(math.isfinite(v) for v in (*replicates, *slopes)):
        return replicates, 1.0
    deleted, derived = jackknife_stderr(replicates), jackknife_stderr(slopes)
    factor = 1.0 if deleted == 0 else min(1.0, max(0.5, (derived / deleted) ** _OF_SLOPES))
    centre = sum(replicates) / len(replicates)
    return [centre + factor * (r - centre) for r in replicates], factor
