"""How well predictions order models by what fine-tuning gave. Pure: vectors in, numbers out; NaN is "not known"."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr, weightedtau

Vector = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float64]  # datasets x models
Measure = Callable[[Vector, Vector], float]  # truth, prediction

LEAST_MODELS = 3


def tau_both(truth: Vector, prediction: Vector, /) -> float:
    """`scipy.stats.weightedtau(prediction, truth)`, SciPy's default `rank=True`: weights by both orders, averaged."""
    return float(weightedtau(prediction, truth).statistic)


def tau_by_truth(truth: Vector, prediction: Vector, /) -> float:
    """`scipy.stats.weightedtau(truth, prediction, rank=None)`: weights by the true order, the first argument's."""
    return float(weightedtau(truth, prediction, rank=None).statistic)


def spearman(truth: Vector, prediction: Vector, /) -> float:
    return float(spearmanr(truth, prediction).statistic)


def regret(k: int, /) -> Measure:
    """Points of accuracy that the best of the first k falls short of the best of all."""

    def measure(truth: Vector, prediction: Vector) -> float:
        return 100 * float(truth.max() - truth[_order(prediction)[:k]].max())

    return measure


def top_three(truth: Vector, prediction: Vector, /) -> float:
    """Whether a model than which none is better is among the first three."""
    return float(truth[_order(prediction)[:3]].max() == truth.max())


MEASURES: dict[str, Measure] = {
    "τw": tau_both,
    "τw by truth": tau_by_truth,
    "Spearman": spearman,
    "regret@1": regret(1),
    "regret@3": regret(3),
    "top-3 hit": top_three,
}


def by_dataset(truth: Matrix, prediction: Matrix, measure: Measure, /) -> Vector:
    """The measure on each dataset, over the models that both know; NaN where they are too few, or all equal."""
    values = []
    for accuracies, predicted in zip(truth, prediction, strict=True):
        known = np.isfinite(accuracies) & np.isfinite(predicted)
        there, told = accuracies[known], predicted[known]
        enough = known.sum() >= LEAST_MODELS and np.ptp(there) > 0 and np.ptp(told) > 0
        values.append(measure(there, told) if enough else np.nan)
    return np.array(values)


def mean_and_interval(values: Vector, /, *, draws: int = 2000) -> tuple[float, float, float]:
    """Mean over datasets, and its 90 % percentile bootstrap over datasets."""
    known = values[np.isfinite(values)]
    if not known.size:
        return (np.nan, np.nan, np.nan)
    dice = np.random.default_rng(0)
    means = known[dice.integers(known.size, size=(draws, known.size))].mean(axis=1)
    low, high = np.quantile(means, (0.05, 0.95))
    return float(known.mean()), float(low), float(high)


def likeness(truth: Matrix, /) -> tuple[float, float]:
    """Mean and standard deviation of τw between the true orders of two datasets: how far a list alone comes."""
    taus = []
    for first, second in combinations(truth, 2):
        known = np.isfinite(first) & np.isfinite(second)
        if known.sum() >= LEAST_MODELS:
            taus.append(tau_both(first[known], second[known]))
    return (float(np.mean(taus)), float(np.std(taus))) if taus else (np.nan, np.nan)


def knowing(truth: Matrix, n_test: Sequence[int], measure: Measure, /, *, draws: int = 200) -> float:
    """Mean of a measure for whoever knows the accuracies as measured, held against as many other test images.

    No predictor can be expected to pass it, for the measured accuracies spread by their own noise as well; on a few
    datasets one may by luck.
    """
    dice = np.random.default_rng(0)
    sizes = np.array(n_test)[:, None]
    again = (
        np.where(np.isfinite(truth), dice.binomial(sizes, np.nan_to_num(truth)) / sizes, np.nan) for _ in range(draws)
    )
    return float(np.mean([np.nanmean(by_dataset(drawn, truth, measure)) for drawn in again]))


def differences(truth: Matrix, prediction: Matrix, n_test: Sequence[int], /) -> dict[str, Any]:
    """Fidelity, pair by pair of models on one dataset: predicted difference against true difference.

    Returns:
        `pairs`; `right`, the share ordered rightly (half for a tie); `told_pairs` and `told_right`, the same of pairs
        whose accuracies differ by more than two binomial standard errors; `correlation` of the differences, each
        dataset's predictions scaled to one standard deviation.
    """
    true, told, clear = [], [], []
    for accuracies, predicted, n in zip(truth, prediction, n_test, strict=True):
        known = np.flatnonzero(np.isfinite(accuracies) & np.isfinite(predicted))
        if known.size < LEAST_MODELS or np.ptp(predicted[known]) == 0:
            continue
        scale = predicted[known].std()
        for a, b in combinations(known, 2):
            difference = accuracies[a] - accuracies[b]
            error = np.sqrt(sum(p * (1 - p) / n for p in (accuracies[a], accuracies[b])))
            true.append(difference)
            told.append((predicted[a] - predicted[b]) / scale)
            clear.append(abs(difference) > 2 * error)
    if not true:
        return {"pairs": 0, "right": np.nan, "told_pairs": 0, "told_right": np.nan, "correlation": np.nan}
    gap, said, sure = np.array(true), np.array(told), np.array(clear)
    differ = gap != 0
    right = np.where(said == 0, 0.5, np.sign(said) == np.sign(gap))
    both = np.r_[gap, -gap], np.r_[said, -said]  # which of two models comes first means nothing
    return {
        "pairs": int(differ.sum()),
        "right": float(right[differ].mean()) if differ.any() else np.nan,
        "told_pairs": int(sure.sum()),
        "told_right": float(right[sure].mean()) if sure.any() else np.nan,
        "correlation": float(np.corrcoef(*both)[0, 1]) if np.ptp(gap) > 0 else np.nan,
    }


def _order(prediction: Vector) -> npt.NDArray[np.int64]:
    """Best first; ties in the order given, which is the same for every prediction."""
    return np.argsort(rankdata(-prediction, method="min"), kind="stable")
