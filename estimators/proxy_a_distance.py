"""Proxy A-distance."""

import torch
from torch import Tensor

from estimators._rows import feature_rows
from estimators._rows_jackknife import block_count, jackknife_blocks, jackknife_score, without_interactions
from estimators._rows_ridge import Ridge, fit_ridge
from estimators._rows_subset import subset
from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score

_OF_REFERENCE = 0.5  # at 1, halves of 250 images of real sets differed by an eighth less than stated; at 0.2 by more
_PENALTIES = tuple(10.0 ** (step / 2) for step in range(-6, 9))


def proxy_a_distance(
    features: Tensor,
    reference_features: Tensor,
    /,
    *,
    max_rows: int = 2000,
    blocks: Tensor | None = None,
) -> Score:
    r"""How well a linear classifier tells the model's features of the target from those of the reference set.

    $\hat d_{\mathcal A} = 2(1 - 2\varepsilon)$, where $\varepsilon$ is the leave-one-out error of a linear classifier
    between the two sets, the larger of which is cut to the size of the smaller.

    Args:
        features: `[N, D]`, floating point, finite.
        reference_features: `[M, D]`, of the same model.
        max_rows: Beyond so many rows a side, a subsample of this size that does not depend on their order.
        blocks: Block number of each target row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        A distance in [-2, 2]: 2 where every image is told apart, about 0 where it cannot be told better than by chance.
        Lower means nearer. `stderr` is the delete-one-block jackknife over target images; it is 0 where no image is
        taken for one of the other set. Diagnostics: `error` ($\varepsilon$), `rows` (a side), `penalty`, `saturated`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity.
        Degenerate: Fewer than three rows a side, or identical rows.

    Reference:
        S. Ben-David, J. Blitzer, K. Crammer, F. Pereira. Analysis of Representations for Domain Adaptation.
        NeurIPS 2006.

    Notes:
        The original trains a linear classifier on one half and takes its error on the other. Here it is a ridge
        classifier, its error leave-one-out in closed form, its penalty chosen by leave-one-out squared error: every
        image counts once, and no split is drawn. Wide features separate small sets of almost any kind, so that the
        distance saturates at 2; MMD does not.
    """
    if max_rows < 3:
        raise InvalidInput(f"max_rows must be at least 3, got {max_rows}")
    rows = feature_rows(features)
    others = feature_rows(reference_features, name="reference_features").to(rows.device)
    if rows.shape[1] != others.shape[1]:
        raise InvalidInput(f"features have {rows.shape[1]} columns, reference_features {others.shape[1]}")
    size = min(rows.shape[0], others.shape[0], max_rows)
    if size < 3:
        raise Degenerate("a domain classifier needs at least three rows a side")
    block = jackknife_blocks(blocks, rows.shape[0]).to(rows.device)
    chosen = subset(rows, size)
    block = torch.unique(block[chosen], return_inverse=True)[1]
    both = torch.cat([rows[chosen].to(torch.float64), others[subset(others, size)].to(torch.float64)])
    sign = torch.ones(2 * size, 1, dtype=torch.float64, device=rows.device)
    sign[size:] = -1
    fit = fit_ridge(both, sign, _PENALTIES)
    pad = -torch.ones(size, dtype=torch.int64, device=rows.device)  # reference rows are in no block
    deletions = torch.cat([block, pad])
    right = _credits(fit.loo, sign, torch.zeros_like(deletions, dtype=torch.bool))
    error = 1 - _balanced(right, size)
    replicates, factor = _replicates(fit, sign, deletions, right, block.cpu())
    return jackknife_score(
        2 * (1 - 2 * error),
        replicates,
        {
            "error": error,
            "rows": size,
            "penalty": fit.penalty,
            "saturated": error == 0,
            "jackknife_factor": factor,
        },
    )


def _credits(outputs: Tensor, sign: Tensor, gone: Tensor) -> Tensor:
    """Return 1 where the sign is right, a half for an output of exactly 0; NaN on deleted rows."""
    kept = ~gone
    mean, n = sign[kept].mean(), int(kept.sum())
    # As in the linear probe: leaving a row out must not shift the intercept against its own side.
    balanced = (outputs - (mean * n - sign) / (n - 1)) * sign
    right = 0.5 + 0.5 * balanced.sign().squeeze(1)
    return right.masked_fill(gone, float("nan"))


def _replicates(fit: Ridge, sign: Tensor, deletions: Tensor, right: Tensor, block: Tensor) -> tuple[list[float], float]:
    """Return the distance without each block, drawn in, and the factor for what target rows give of it.

    Reference rows stay, and a deletion turns the sign of a few that lie at the boundary. Which ones it turns is mostly
    chance: what they move the distance by counts for half of its variance.
    """
    size = block.numel()
    rows = []
    for b in range(block_count(block)):
        gone = deletions == b
        rows.append(_credits(fit.without(gone), sign, gone))
    if not rows:
        return [], 1.0
    targets = [2 * row[:size].cpu() for row in rows]
    of_targets, factor = without_interactions(
        [float(row.nanmean()) for row in targets], 2 * right[:size].cpu(), targets, block
    )
    of_reference = [2 * float(row[size:].mean()) for row in rows]
    whole = 2 * float(right[size:].mean())
    drawn = [whole + _OF_REFERENCE**0.5 * (value - whole) for value in of_reference]
    return [target + other - 2 for target, other in zip(of_targets, drawn, strict=True)], factor


def _balanced(right: Tensor, size: int) -> float:
    return float(right[:size].nanmean() + right[size:].mean()) / 2
