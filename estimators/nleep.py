"""N-LEEP: LEEP on the components of a Gaussian mixture."""

import warnings
from typing import Literal

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from estimators._rows import class_counts, class_ids, feature_rows
from estimators._rows_pca import principal_components
from estimators._rows_probs import joint_mass, log_expected
from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score

Covariance = Literal["diag", "spherical"]


def nleep(
    features: Tensor,
    labels: Tensor,
    /,
    *,
    components_per_class: int = 5,
    covariance: Covariance = "diag",
    seed: int = 0,
) -> Score:
    r"""How well clusters of the features, found without labels, predict the target label.

    The features' leading principal components with 80 % of the variance are fitted by a Gaussian mixture of K
    components; with responsibilities $\theta(x_i)_v = p(v \mid x_i)$,
    $\mathrm{N\text{-}LEEP} = \frac1N \sum_i \log \sum_v \hat P(y_i \mid v)\, \theta(x_i)_v$.

    Args:
        features: `[N, D]`, floating point, finite.
        labels: Integers `[N]`, with any gaps.
        components_per_class: K = this times the number of classes, and at most N/5.
        covariance: Of each mixture component: `diag` or `spherical`.
        seed: Of the k-means that starts the mixture.

    Returns:
        A mean log probability in (-inf, 0]; higher is better. No `stderr`. Diagnostics: `components` (of the mixture),
        `dimensions` (of the projection), `converged`, `n_iter`, `singleton_classes`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, an unknown covariance.
        Degenerate: One class, identical rows, or fewer than ten rows (two components of five rows each).

    Reference:
        Y. Li, X. Jia, R. Sang, Y. Zhu, B. Green, L. Wang, B. Gong. Ranking Neural Checkpoints. CVPR 2021.
        arXiv:2011.11200.

    Notes:
        Published implementations fit full covariances, unseeded, to as many as N components, and three runs on the same
        data gave 0.500, 0.491 and 0.429; some leave out the logarithm. Here covariances are diagonal (or spherical), K
        is at most N/5, and rows are put into an order of their own before a seeded start, so that the order they come
        in does not matter. The mixture is fitted and measured on the same rows: noise scores above $-H(Y)$, the more
        so the larger K/N. It states no error, because a mixture fitted to part of the rows may be another mixture.
    """
    if covariance not in ("diag", "spherical"):
        raise InvalidInput(f"covariance must be 'diag' or 'spherical', got {covariance!r}")
    if components_per_class < 1:
        raise InvalidInput(f"components_per_class must be at least 1, got {components_per_class}")
    rows = feature_rows(features).cpu()
    n = rows.shape[0]
    ids = class_ids(labels, n).cpu()
    n_classes = int(ids.max()) + 1
    count = min(components_per_class * n_classes, n // 5)
    if count < 2:
        raise Degenerate(f"{n} rows are too few for a mixture: ten are needed for two components")
    scores, variances = principal_components(rows, share=0.8)
    data = (scores / variances.sum().sqrt()).numpy()
    order = np.lexsort(np.round(data, 9).T[::-1])
    mixture = GaussianMixture(count, covariance_type=covariance, random_state=seed, reg_covar=1e-6, max_iter=200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported in the diagnostics
        mixture.fit(data[order])
    responsibilities = torch.from_numpy(mixture.predict_proba(data))
    logs = log_expected(responsibilities, ids, joint_mass(responsibilities, ids, n_classes))
    return Score(
        float(logs.mean()),
        None,
        {
            "components": count,
            "dimensions": data.shape[1],
            "covariance": covariance,
            "seed": seed,
            "converged": bool(mixture.converged_),
            "n_iter": int(mixture.n_iter_),
            "singleton_classes": int((class_counts(ids) == 1).sum()),
        },
    )
