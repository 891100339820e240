"""An estimator: evidence in, a Score out."""

from torch import Tensor

from estimators.errors import Degenerate
from estimators.score import Score


def eta_squared(features: Tensor, labels: Tensor, /) -> Score:
    rows = features.double()
    total = (rows - rows.mean(0)).square().sum()
    if total == 0:
        raise Degenerate("all features are equal")
    means = {int(c): rows[labels == c].mean(0) for c in labels.unique()}
    within = sum((rows[labels == c] - mean).square().sum() for c, mean in means.items())
    return Score(float(1 - within / total), None, {"classes": len(means)})
