"""PARC: pairwise annotation representation comparison."""

from typing import Literal, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from torch import Tensor

from estimators._rows import class_ids, feature_rows
from estimators._rows_jackknife import delete_blocks, jackknife_blocks, jackknife_score
from estimators._rows_pca import principal_components
from estimators._rows_subset import subset
from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score

Variant = Literal["exact", "published"]

_COMPONENTS = 32
_PUBLISHED_SEED = 1919


def parc(
    features: Tensor,
    labels: Tensor,
    /,
    *,
    variant: Variant = "exact",
    max_rows: int = 5000,
    blocks: Tensor | None = None,
) -> Score:
    r"""Whether pairs of images that look alike to the model are pairs with the same label.

    $\mathrm{PARC} = 100 \cdot \rho_{\mathrm{Spearman}}\bigl(\{1 - \mathrm{corr}(z_i, z_j)\}_{i<j},
    \{1 - \mathrm{corr}(e_{y_i}, e_{y_j})\}_{i<j}\bigr)$, where $z$ are the features projected onto their first 32
    principal components, each scaled to unit variance, and $e_y$ is the indicator vector of class y.

    Args:
        features: `[N, D]`, floating point, finite.
        labels: Integers `[N]`, with any gaps.
        variant: `exact`, or `published` with the authors' randomised projection.
        max_rows: Beyond so many rows, a subsample of this size that does not depend on their order.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        A rank correlation times 100, in [-100, 100]; higher is better, 0 without signal. `stderr` is the
        delete-one-block jackknife, with the projection computed anew. Diagnostics: `components`, `rows`, `subsampled`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, an unknown variant.
        Degenerate: One class, no two images of one class, identical rows, or fewer than two components.

    Reference:
        D. Bolya, R. Mittapalli, J. Hoffman. Scalable Diverse Model Selection for Accessible Transfer Learning.
        NeurIPS 2021. arXiv:2111.06977.

    Notes:
        The published projection is drawn at random (seed 1919, one power iteration), and where N < D it depends on the
        order of the rows; the default is exact. Both take fewer than 32 components where the rank is less, where the
        authors' code raises. The correlation of two rows depends on the signs of the components, which a projection
        leaves open: `exact` makes each component's largest loading positive. Correlations between indicators take two
        values only, so that the second ranking is all ties: the largest attainable value is below 100. The memory is
        that of a few N x N matrices.
    """
    if variant not in ("exact", "published"):
        raise InvalidInput(f"variant must be 'exact' or 'published', got {variant!r}")
    if max_rows < 4:
        raise InvalidInput(f"max_rows must be at least 4, got {max_rows}")
    rows = feature_rows(features).cpu().to(torch.float64)
    n = rows.shape[0]
    ids = class_ids(labels, n).cpu()
    block = jackknife_blocks(blocks, n)
    chosen = subset(rows, max_rows)
    if chosen.numel() < n:
        rows, ids, block = rows[chosen], ids[chosen], torch.unique(block[chosen], return_inverse=True)[1]
    value, components = _correlation(rows, ids, variant)

    def value_of(kept: Tensor) -> float:
        try:
            return _correlation(rows[kept], ids[kept], variant)[0]
        except Degenerate:
            return float("nan")

    return jackknife_score(
        value,
        delete_blocks(block, value_of),
        {"variant": variant, "components": components, "rows": rows.shape[0], "subsampled": rows.shape[0] < n},
    )


def _correlation(rows: Tensor, ids: Tensor, variant: Variant) -> tuple[float, int]:
    n = rows.shape[0]
    upper = np.triu_indices(n, 1)
    differs = (ids[:, None] != ids[None, :]).numpy()[upper]
    if not differs.any() or differs.all():
        raise Degenerate("pairs of images all share a label, or none does")
    scores = _projected(rows, variant)
    if scores.shape[1] < 2:
        raise Degenerate("the features vary along fewer than two components: rows have no correlation")
    scores = scores - scores.mean(1, keepdims=True)
    lengths = np.linalg.norm(scores, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise Degenerate("a row is constant after projection: it has no correlation with others")
    scores /= lengths
    ranks = rankdata(1 - (scores @ scores.T)[upper])
    # Spearman against two values is a difference of mean ranks.
    share = float(differs.mean())
    gap = float(ranks[differs].mean() - ranks[~differs].mean())
    spread = float(ranks.std())
    if spread == 0:
        raise Degenerate("all pairs of rows are equally alike")
    return 100 * gap * (share * (1 - share)) ** 0.5 / spread, scores.shape[1]


def _projected(rows: Tensor, variant: Variant) -> NDArray[np.float64]:
    match variant:
        case "exact":
            scores, variances = principal_components(rows, n_components=_COMPONENTS)
            return np.asarray((scores / variances.sqrt()).numpy())
        case "published":
            data = rows.numpy()
            if not data.std(0).any():
                raise Degenerate("all rows are identical")
            count = min(_COMPONENTS, *data.shape)
            pca = PCA(count, svd_solver="randomized", iterated_power=1, random_state=_PUBLISHED_SEED)
            projected = pca.fit_transform(data)
            deviation = projected.std(0)
            kept = deviation > 1e-10 * deviation.max()
            return np.asarray(projected[:, kept] / deviation[kept], dtype=np.float64)
        case _:
            assert_never(variant)
