"""Ridge regression on rows, with its leave-one-out and leave-a-block-out predictions in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.errors import Degenerate


@dataclass(frozen=True, slots=True)
class Ridge:
    """A ridge fit with an unpenalised intercept, as a linear smoother of the targets.

    Attributes:
        left: Left singular vectors `[N, r]` of the centred rows.
        shrink: Factors $s^2 / (s^2 + \\lambda)$ `[r]`.
        loo: Leave-one-out predictions `[N, T]`.
        penalty: $\\lambda$ over the mean square of a row about the mean.
    """

    left: Tensor
    singular: Tensor
    right: Tensor
    mean: Tensor
    shrink: Tensor
    values: Tensor
    loo: Tensor
    penalty: float

    def without(self, deleted: Tensor, /) -> Tensor:
        """Return leave-one-out predictions `[N, T]` of the fit without the rows `deleted` (a mask `[N]`)."""
        gone, columns, weights = self._deletion(deleted)
        residual = self.values - self._fitted() - columns @ (weights @ gone)
        own = 1 - self._leverage() - ((columns @ weights) * columns).sum(1)
        return self.values - residual / own[:, None]

    def predict(self, rows: Tensor, /, *, deleted: Tensor | None = None) -> Tensor:
        """Return predictions `[M, T]` for other rows, of the fit with or without the rows `deleted`."""
        values = self.values
        if deleted is not None:
            gone, _, weights = self._deletion(deleted)
            values = values.clone()
            values[deleted] -= weights @ gone  # a deleted row that its own prediction replaces no longer pulls
        centre = values.mean(0)
        coefficients = (self.shrink / self.singular)[:, None] * (self.left.T @ (values - centre))
        return (rows.to(torch.float64) - self.mean) @ (self.right @ coefficients) + centre

    def _deletion(self, deleted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return residuals of the deleted rows, the columns of I - H they own, and the inverse of its block."""
        columns = -(self.left * self.shrink) @ self.left[deleted].T - 1 / self.values.shape[0]
        columns[deleted] += torch.eye(columns.shape[1], dtype=columns.dtype, device=columns.device)
        return (self.values - self._fitted())[deleted], columns, torch.linalg.inv(columns[deleted])

    def _fitted(self) -> Tensor:
        centre = self.values.mean(0)
        return (self.left * self.shrink) @ (self.left.T @ (self.values - centre)) + centre

    def _leverage(self) -> Tensor:
        return (self.left.square() * self.shrink).sum(1) + 1 / self.values.shape[0]


def fit_ridge(rows: Tensor, values: Tensor, penalties: tuple[float, ...], /) -> Ridge:
    """Fit with the penalty whose leave-one-out squared error is least.

    Args:
        rows: `[N, D]`.
        values: Targets `[N, T]` float64.
        penalties: Candidates, in units of the mean square of a row about the mean: scaled rows get the same fit.

    Raises:
        Degenerate: The rows are identical.
    """
    data = rows.to(torch.float64)
    mean = data.mean(0)
    centred = data - mean
    left, singular, right = _thin(centred)
    scale = float(centred.square().sum()) / centred.shape[0]
    if singular.numel() == 0 or scale <= 0:
        raise Degenerate("all rows are identical")
    centre = values.mean(0)
    projected = left.T @ (values - centre)
    squares = left.square()
    best: tuple[float, float, Tensor, Tensor] | None = None
    for penalty in penalties:
        shrink = singular.square() / (singular.square() + penalty * scale)
        fitted = left @ (shrink[:, None] * projected) + centre
        own = (1 - 1 / values.shape[0] - squares @ shrink).clamp_min(1e-12)
        residual = (values - fitted) / own[:, None]
        error = float(residual.square().sum())
        if best is None or error < best[0]:
            best = (error, penalty, shrink, values - residual)
    if best is None:
        raise Degenerate("no penalty to choose from")
    _, penalty, shrink, loo = best
    return Ridge(left, singular, right, mean, shrink, values, loo, penalty)


def _thin(centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # From the smaller Gram matrix: what its squared condition number loses is far below every penalty.
    n, width = centred.shape
    if n <= width:
        eigenvalues, left = torch.linalg.eigh(centred @ centred.T)
        kept = eigenvalues > eigenvalues[-1] * max(n, width) * torch.finfo(torch.float64).eps
        singular = eigenvalues[kept].sqrt()
        left = left[:, kept]
        return left, singular, centred.T @ (left / singular)
    eigenvalues, right = torch.linalg.eigh(centred.T @ centred)
    kept = eigenvalues > eigenvalues[-1] * max(n, width) * torch.finfo(torch.float64).eps
    singular = eigenvalues[kept].sqrt()
    right = right[:, kept]
    return centred @ (right / singular), singular, right
