"""LDA: how sure a linear discriminant analysis is of images it was not fitted to."""

from __future__ import annotations

from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.discriminant import HeldOut, held_out, leverages
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.shared import CREDITS, Options, Value, evaluate_case, make_case
from estimators.view import View


def lda(
    features: Tensor | ClassMoments | BlockMoments, labels: Tensor | None = None, /, *, blocks: Tensor | None = None
) -> Score:
    r"""Mean probability of the true class under a shrunk discriminant analysis fitted without the image.

    With means mu_k, counts n_k and the pooled within-class scatter W, shrunk to (1 - a) W + a tr(W)/D I,

        p(k | x) ~ n_k exp(-1/2 [(x - mu_k)^T S^-1 (x - mu_k) - t/n_k]),

    where S is the shrunk scatter over N - C, t/n_k what the noise of mu_k adds to the distance on average, and
    everything but a and t is recomputed without image i before p(y_i | x_i) is taken. The value is the mean over i.

    Args:
        features: Features `[N, D]`, float32 or float64, finite. Moments serve while they keep their rows (N < D).
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in [0, 1], higher is better: 1/C without signal, at any width. Diagnostics: `log_score` (mean log
        probability, classes of one image left out), `accuracy`, `shrinkage`, `singletons` (classes of one image, which
        has probability 0 when held out), `jackknife_factor` where there are blocks.

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, moments without rows.
        Degenerate: One class; constant features; no spread within any class; N <= C + 1.

    Reference:
        Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7(2), 1936. As a
        transferability estimate: Shao et al., ECCV 2022, arXiv:2207.03036 (see `estimators.sfda`). Shrinkage: Ledoit,
        Wolf, Journal of Multivariate Analysis 88(2), 2004.

    Notes:
        Fitted and measured on the same rows, as published, the probability is 1 for pure noise once D > N. Holding an
        image out is exact and costs one triangular solve for all of them (Sherman-Morrison); the shrinkage itself and t
        are those of all images. Without the correction t/n_k a held-out image's own class, which has one image fewer,
        is at a disadvantage that grows with D. With a block left out of more than a thousand images, leverages are
        carried over from all of them and scaled by a sample's; all else is recomputed. The plain jackknife overstates
        the error of a held-out probability by half: what two blocks do to each other's images is counted twice, and
        most of it is taken out as in `estimators.knn`.
    """
    return evaluate_case(lda_value, make_case(features, labels, blocks, rows=True), Options())


def lda_value(view: View, options: Options, /) -> Value:
    """LDA of a view."""
    return summarise(view, held_out(view, None))


def summarise(view: View, posterior: HeldOut, /) -> Value:
    """The mean held-out probability, with what else is worth knowing."""
    finite = posterior.log_own.isfinite()
    view.memo[CREDITS] = posterior.own
    log_score = float(posterior.log_own[finite].mean()) if bool(finite.any()) else 0.0
    return float(posterior.own.mean()), {
        "log_score": log_score,
        "accuracy": float(posterior.right.to(posterior.own.dtype).mean()),
        "shrinkage": leverages(view).shrinkage,
        "singletons": int((view.counts == 1).sum()),
    }
