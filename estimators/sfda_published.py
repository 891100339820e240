"""SFDA with its authors' constants, for comparison with papers."""

import math

import torch
from torch import Tensor

from estimators._rows import class_counts, class_ids, feature_rows
from estimators.errors import Degenerate
from estimators.linalg import gram
from estimators.score import Score

_POWER_STEPS = 3
_SHRINK_RATE = 5.0
_LEAST_SHRINKAGE = 1e-10


def sfda_published(features: Tensor, labels: Tensor, /) -> Score:
    r"""How sure a discriminant analysis is of the labels it was fitted to, after hard images are pushed together.

    With $S_W = \sum_c \pi_c \Sigma_c$, $\lambda \approx \lambda_{\max}(S_W)$, $s = \max(e^{-5\lambda}, 10^{-10})$ and
    $S_W' = (1-s) S_W + s \tfrac{\mathrm{tr} S_W}{D} I$, the posterior is
    $p(c \mid x) = \mathrm{softmax}_c(\mu_c^\top S_W'^{-1} x - \tfrac12 \mu_c^\top S_W'^{-1} \mu_c + \log \pi_c)$.
    Confidence mixing replaces $x_i$ by $q_i x_i + (1-q_i) \tfrac{1}{C-1} \sum_{c \ne y_i} \mu_c$, where $q_i$ is the
    softmax of $p(\cdot \mid x_i)$ at $y_i$; the same analysis with the same $s$ is fitted to the mixed rows, and
    $\mathrm{SFDA} = \tfrac1N \sum_i p(y_i \mid x_i)$.

    Args:
        features: $x$, `[N, D]`, floating point, finite. Not modified.
        labels: Integers `[N]`, with any gaps.

    Returns:
        A mean probability in (0, 1]; higher is better. No `stderr`. Diagnostics: `shrinkage` ($s$), `lambda_max`
        ($\lambda$ after three double power steps), `saturated` (N <= D + C: near 1 whatever the features).

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity.
        Degenerate: One class, or no variance within classes.

    Reference:
        W. Shao, X. Zhao, Y. Ge, Z. Zhang, L. Yang, X. Wang, Y. Shan, P. Luo. Not All Models Are Equal: Predicting Model
        Transferability in a Self-challenging Fisher Space. ECCV 2022. arXiv:2207.03036.

    Notes:
        For parity with published tables only; it never ranks. It is fitted and measured on the same rows, so that pure
        noise scores 1 where N < D, and it depends on the scale of the features through $e^{-5\lambda}$. The authors
        solve a generalised eigenproblem for all D vectors V; since $V V^\top = S_W'^{-1}$ exactly, a Cholesky solve
        gives the same posterior. Their code overwrites the caller's features and needs labels without gaps; this one
        does neither. The softmax applied twice, and the probability without a logarithm, are theirs.
    """
    rows = feature_rows(features).cpu().to(torch.float64)
    ids = class_ids(labels, rows.shape[0]).cpu()
    rows = rows - rows.mean(0)
    posterior, means, shrinkage, top = _fit(rows, ids, None)
    own = torch.softmax(posterior, 1).gather(1, ids[:, None])
    n_classes = means.shape[0]
    others = (means.sum(0) - means) / (n_classes - 1)
    mixed = own * rows + (1 - own) * others[ids]
    final, _, _, _ = _fit(mixed, ids, shrinkage)
    return Score(
        float(final.gather(1, ids[:, None]).mean()),
        None,
        {
            "shrinkage": shrinkage,
            "lambda_max": top,
            "saturated": rows.shape[0] <= rows.shape[1] + n_classes,
        },
    )


def _fit(rows: Tensor, ids: Tensor, shrinkage: float | None) -> tuple[Tensor, Tensor, float, float]:
    n, width = rows.shape
    counts = class_counts(ids).to(torch.float64)
    means = torch.zeros(counts.numel(), width, dtype=torch.float64).index_add_(0, ids, rows) / counts[:, None]
    within = gram(rows - means[ids], torch.zeros(width, dtype=torch.float64)) / n
    average = float(within.trace()) / width
    total = float(rows.square().sum()) / n / width
    if average <= total * n * torch.finfo(torch.float64).eps ** 2:
        raise Degenerate("no variance within classes")
    top = _largest_eigenvalue(within)
    if shrinkage is None:
        shrinkage = max(math.exp(-_SHRINK_RATE * top), _LEAST_SHRINKAGE)
    within *= 1 - shrinkage
    within.diagonal().add_(shrinkage * average)
    factor, failed = torch.linalg.cholesky_ex(within)
    if int(failed):
        raise Degenerate("the shrunk scatter within classes is not positive definite")
    weights = torch.cholesky_solve(means.T, factor)
    bias = -0.5 * (means.T * weights).sum(0) + (counts / n).log()
    return torch.softmax(rows @ weights + bias, 1), means, shrinkage, top


def _largest_eigenvalue(matrix: Tensor) -> float:
    right = matrix.sum(1)
    left = right
    for _ in range(_POWER_STEPS):
        left = _unit(matrix @ right)
        right = _unit(matrix @ left)
    return float(right @ (matrix @ left))


def _unit(vector: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(vector)
    return vector / length if float(length) > 0 else vector
