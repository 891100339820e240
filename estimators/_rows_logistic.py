"""Multinomial logistic regression with a ridge penalty, to convergence."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from estimators.errors import Degenerate

_MAX_ITERATIONS = 500


@dataclass(frozen=True, slots=True)
class Logistic:
    """A fit in the basis of its training rows, and what it says of the test rows.

    Attributes:
        weights: `[C, D + 1]` on scaled rows, the intercept last.
        test_scores: `[M, C]`.
        rank: Dimension in which the weights were fitted.
        converged: Whether the gradient fell below its tolerance.
        n_iter: Rounds of L-BFGS.
    """

    weights: Tensor
    test_scores: Tensor
    rank: int
    converged: bool
    n_iter: int


def fit_logistic(
    rows: Tensor, ids: Tensor, n_classes: int, test_rows: Tensor, /, *, start: Logistic | None = None
) -> Logistic:
    """Fit class ids `[N]` on rows `[N, D]`, with a penalty of 1/(2N) on the weights of rows scaled to unit columns.

    The rows are rotated into the space they span, which changes nothing under this penalty and is cheaper when N < D.
    """
    mean = rows.to(torch.float64).mean(0)
    centred = rows.to(torch.float64) - mean
    scale = float(centred.square().mean()) ** 0.5
    if scale == 0:
        raise Degenerate("all rows are identical")
    basis = _basis(centred)
    data = (centred / scale) @ basis
    n, rank = data.shape
    onehot = torch.nn.functional.one_hot(ids, n_classes).to(torch.float64)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = torch.from_numpy(flat).to(data.device).reshape(n_classes, rank + 1)
        scores = data @ weights[:, :-1].T + weights[:, -1]
        value = (torch.logsumexp(scores, 1) - (scores * onehot).sum(1)).mean() + weights[:, :-1].square().sum() / (
            2 * n
        )
        slope = (torch.softmax(scores, 1) - onehot) / n
        gradient = torch.cat([slope.T @ data + weights[:, :-1] / n, slope.sum(0)[:, None]], 1)
        return float(value), gradient.reshape(-1).cpu().numpy()

    first = torch.zeros(n_classes, rank + 1, dtype=torch.float64)
    if start is not None:
        first[:, :-1] = (start.weights[:, :-1] @ basis).cpu()
        first[:, -1] = start.weights[:, -1].cpu()
    found = minimize(
        loss,
        first.reshape(-1).numpy(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_ITERATIONS, "gtol": 1e-6, "ftol": 1e-12},
    )
    fitted = torch.from_numpy(found.x).to(data.device).reshape(n_classes, rank + 1)
    scores = ((test_rows.to(torch.float64) - mean) / scale) @ (basis @ fitted[:, :-1].T) + fitted[:, -1]
    weights = torch.cat([fitted[:, :-1] @ basis.T, fitted[:, -1:]], 1)
    return Logistic(weights, scores, rank, bool(found.success), int(found.nit))


def _basis(centred: Tensor) -> Tensor:
    n, width = centred.shape
    if n > width:
        return torch.eye(width, dtype=centred.dtype, device=centred.device)
    basis: Tensor = torch.linalg.qr(centred.T)[0]
    return basis
