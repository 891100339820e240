"""A subsample that is the same rows whatever order they come in."""

import torch
from torch import Tensor

from estimators._rows import row_digests


def subset(rows: Tensor, size: int, /) -> Tensor:
    """Return the positions of at most `size` rows, ascending: those whose content has the smallest digests.

    Digests are as good as random, and belong to the row rather than to its place: the subsample does not depend on the
    order of the rows, and needs no seed.
    """
    n = rows.shape[0]
    if n <= size:
        return torch.arange(n, device=rows.device)
    digests = row_digests(rows)
    order = sorted(range(n), key=digests.__getitem__)
    return torch.tensor(sorted(order[:size]), device=rows.device)
