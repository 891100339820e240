"""Principal components, exactly."""

import torch
from torch import Tensor

from estimators.errors import Degenerate


def principal_components(
    rows: Tensor, /, *, n_components: int | None = None, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Project rows onto their leading principal components.

    Args:
        rows: `[N, D]`.
        n_components: At most so many; None for as many as the rank.
        share: The fewest components that hold this share of the variance.

    Returns:
        Scores `[N, d]` float64, and the variance of each (over N - 1), descending. The sign of each component makes
        its largest loading positive.

    Raises:
        Degenerate: The rows are identical.
    """
    data = rows.to(torch.float64)
    centred = data - data.mean(0)
    n, width = centred.shape
    if n <= width:
        eigenvalues, left = torch.linalg.eigh(centred @ centred.T)
    else:
        eigenvalues, right = torch.linalg.eigh(centred.T @ centred)
    eigenvalues = eigenvalues.flip(0)
    floor = max(n * torch.finfo(torch.float64).eps, 1e-12) * eigenvalues[0]
    rank = int((eigenvalues > floor).sum()) if float(eigenvalues[0]) > 0 else 0
    if rank == 0 or float(centred.square().sum()) <= float(data.square().sum()) * 1e-24:
        raise Degenerate("all rows are identical")
    kept = min(rank, n_components or rank)
    if share < 1:
        cumulative = eigenvalues[:rank].cumsum(0) / eigenvalues[:rank].sum()
        kept = min(kept, int((cumulative < share).sum()) + 1)
    loadings = centred.T @ left.flip(1)[:, :kept] if n <= width else right.flip(1)[:, :kept]
    loadings = loadings / torch.linalg.vector_norm(loadings, dim=0)
    largest = loadings.gather(0, loadings.abs().argmax(0, keepdim=True))
    return centred @ (loadings * largest.sign()), eigenvalues[:kept] / (n - 1)
