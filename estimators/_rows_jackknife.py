"""Standard errors from delete-one-block replicates."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from estimators.score import Score


def jackknife_score(
    value: float, replicates: Tensor | None, diagnostics: Mapping[str, float | int | bool | str]
) -> Score:
    """Return the score with the delete-one-block jackknife error of its replicates, or none where one is undefined."""
    if replicates is None or replicates.numel() < 2 or not bool(torch.isfinite(replicates).all()):
        return Score(value, None, diagnostics)
    count = replicates.numel()
    spread = float(((replicates - replicates.mean()) ** 2).sum())
    stderr = math.sqrt((count - 1) / count * spread)
    return Score(value, stderr, diagnostics, tuple(replicates.tolist()))


def balanced_blocks(ids: Tensor | None, n: int, /, *, n_blocks: int = 10) -> Tensor:
    """Assign rows to blocks `[N]`, each class spread over the blocks as evenly as it divides."""
    blocks = torch.empty(n, dtype=torch.int64)
    order = torch.arange(n) if ids is None else torch.argsort(ids.cpu(), stable=True)
    blocks[order] = torch.arange(n) % min(n_blocks, n)
    return blocks
