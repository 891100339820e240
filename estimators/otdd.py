"""OTDD: optimal transport dataset distance."""

import ot
import torch
from torch import Tensor

from estimators._rows import class_ids, feature_rows, one_per_row
from estimators._rows_pca import principal_components
from estimators._rows_subset import subset
from estimators.errors import InvalidInput
from estimators.score import Score

_MAX_ITERATIONS = 1_000_000


def otdd(
    features: Tensor,
    labels: Tensor,
    reference_features: Tensor,
    /,
    *,
    reference_labels: Tensor | None = None,
    max_rows: int = 1000,
    n_components: int = 64,
) -> Score:
    r"""What it costs to move the target's images onto the reference set's, classes and all.

    $d^2 = \min_\pi \sum_{i,j} \pi_{ij} \bigl(\|x_i - z_j\|^2 + W_2^2(\alpha_{y_i}, \alpha_{y'_j})\bigr)$ over couplings
    $\pi$ of uniform weights, where $\alpha_y$ is the Gaussian with the mean and covariance of class y and
    $W_2^2(\alpha, \beta) = \|\mu_\alpha - \mu_\beta\|^2 + \mathrm{tr}\bigl(\Sigma_\alpha + \Sigma_\beta -
    2 (\Sigma_\alpha^{1/2} \Sigma_\beta \Sigma_\alpha^{1/2})^{1/2}\bigr)$.

    Args:
        features: $x$, `[N, D]`, floating point, finite.
        labels: $y$, integers `[N]`, with any gaps.
        reference_features: $z$, `[M, D]`, of the same model.
        reference_labels: $y'$, integers `[M]`; without them the reference set is one class.
        max_rows: Beyond so many rows a side, a subsample of this size that does not depend on their order.
        n_components: The distance is taken in at most so many principal components of the pooled rows.

    Returns:
        A distance in [0, inf), in units of the pooled rows' root mean square distance from their mean. Lower means
        nearer. No `stderr`. Diagnostics: `rows`, `reference_rows`, `subsampled`, `components`, `variance_kept`,
        `singleton_classes` (their covariance is taken as zero).

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity.
        Degenerate: One target class, or identical rows.

    Reference:
        D. Alvarez-Melis, N. Fusi. Geometric Dataset Distances via Optimal Transport. NeurIPS 2020. arXiv:2002.02923.

    Notes:
        The transport is solved exactly by POT's network simplex (R. Flamary et al., JMLR 22(78), 2021), where the
        authors' code takes an entropic, debiased approximation; covariances are full, in the projected space. Two
        samples of one dataset are not at distance 0: the mean distance between neighbours remains, and it grows with
        the dimension and falls with the number of rows. Compare distances under one model, at equal row counts.
    """
    if max_rows < 2 or n_components < 1:
        raise InvalidInput("max_rows must be at least 2 and n_components at least 1")
    rows = feature_rows(features).cpu()
    others = feature_rows(reference_features, name="reference_features").cpu()
    if rows.shape[1] != others.shape[1]:
        raise InvalidInput(f"features have {rows.shape[1]} columns, reference_features {others.shape[1]}")
    ids = class_ids(labels, rows.shape[0]).cpu()
    if reference_labels is None:
        other_ids = torch.zeros(others.shape[0], dtype=torch.int64)
    else:
        other_ids = one_per_row(reference_labels, others.shape[0], name="reference_labels").cpu()
    subsampled = max(rows.shape[0], others.shape[0]) > max_rows
    chosen, other_chosen = subset(rows, max_rows), subset(others, max_rows)
    rows, ids = rows[chosen], torch.unique(ids[chosen], return_inverse=True)[1]
    others, other_ids = others[other_chosen], torch.unique(other_ids[other_chosen], return_inverse=True)[1]
    pooled = torch.cat([rows.to(torch.float64), others.to(torch.float64)])
    total = float((pooled - pooled.mean(0)).square().sum()) / pooled.shape[0]
    scores, variances = principal_components(pooled, n_components=n_components)
    kept = float(variances.sum()) * (pooled.shape[0] - 1) / pooled.shape[0] / total
    scores = scores / total**0.5
    x, z = scores[: rows.shape[0]], scores[rows.shape[0] :]
    between = _gaussian_distances(*_gaussians(x, ids), *_gaussians(z, other_ids))
    cost = torch.cdist(x, z, compute_mode="donot_use_mm_for_euclid_dist").square() + between[ids][:, other_ids]
    moved = float(ot.emd2([], [], cost.numpy(), numItermax=_MAX_ITERATIONS))
    return Score(
        max(moved, 0.0) ** 0.5,
        None,
        {
            "rows": rows.shape[0],
            "reference_rows": others.shape[0],
            "subsampled": subsampled,
            "components": scores.shape[1],
            "variance_kept": kept,
            "singleton_classes": int((torch.bincount(ids) == 1).sum()),
        },
    )


def _gaussians(rows: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return class means `[C, d]` and covariances `[C, d, d]`."""
    means, covariances = [], []
    for c in range(int(ids.max()) + 1):
        own = rows[ids == c]
        mean = own.mean(0)
        means.append(mean)
        covariances.append((own - mean).T @ (own - mean) / own.shape[0])
    return torch.stack(means), torch.stack(covariances)


def _gaussian_distances(means: Tensor, covariances: Tensor, other_means: Tensor, other_covariances: Tensor) -> Tensor:
    """Return squared Bures-Wasserstein distances `[C, C']`."""
    values, vectors = torch.linalg.eigh(covariances)
    roots = (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.transpose(1, 2)
    traces = covariances.diagonal(dim1=1, dim2=2).sum(1)
    out = torch.cdist(means, other_means, compute_mode="donot_use_mm_for_euclid_dist").square()
    for j, (other, trace) in enumerate(
        zip(other_covariances, other_covariances.diagonal(dim1=1, dim2=2).sum(1), strict=True)
    ):
        shared = torch.linalg.eigvalsh(roots @ other @ roots).clamp_min(0).sqrt().sum(1)
        out[:, j] += (traces + trace - 2 * shared).clamp_min(0)
    return out
