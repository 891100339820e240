"""What is held against the truth. A predictor sees everything but the accuracies on the dataset it predicts for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.truth.agreement import Matrix, Vector
from benchmarks.truth.tables import Truth
from service.recommendations.fusion import Part


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """All that a predictor may look at.

    Attributes:
        truth: with the target's row blanked out.
        target: that row's number.
        scores: of each estimator, larger is better, `[datasets, models]`; the target's row is there.
        params: of each model, in the order of `truth.models`; NaN where unknown.
        imagenet: published ImageNet top-1 of each model, NaN where there is none.
    """

    truth: Truth
    target: int
    scores: Mapping[str, Matrix]
    params: Vector
    imagenet: Vector

    def blind(self, target: int, /) -> "Known":
        """The same for another target, whose row is blanked out."""
        accuracy, probe = self.truth.accuracy.copy(), self.truth.probe.copy()
        accuracy[target] = probe[target] = np.nan
        return replace(self, truth=replace(self.truth, accuracy=accuracy, probe=probe), target=target)


Predictor = Callable[[Known], Vector]  # one value a model, larger is better; NaN: no prediction


def static_list(known: Known, /) -> Vector:
    """Mean z-scored accuracy on the other datasets: it never looks at the target."""
    others = np.delete(known.truth.accuracy, known.target, axis=0)
    others = others[np.isfinite(others).any(axis=1)]
    deviation = np.nanstd(others, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (others - np.nanmean(others, axis=1, keepdims=True)) / np.where(deviation > 0, deviation, np.nan)
    counts = np.isfinite(z).sum(axis=0)
    return np.where(counts > 0, np.nansum(z, axis=0) / np.maximum(counts, 1), np.nan)


def size(known: Known, /) -> Vector:
    return known.params


def imagenet(known: Known, /) -> Vector:
    """Who has no published accuracy comes last: those models were trained for something else."""
    if not np.isfinite(known.imagenet).any():
        return known.imagenet
    return np.where(np.isfinite(known.imagenet), known.imagenet, np.nanmin(known.imagenet) - 1)


def recommendation(known: Known, /) -> Vector:
    """What the product says: evidence and records together, or the evidence where that is not shown to be better."""
    return _merit(known, None)


def evidence(known: Known, /) -> Vector:
    """Its half that looks at the target's images."""
    return _merit(known, "evidence")


def records(known: Known, /) -> Vector:
    """Its half that does not."""
    return _merit(known, "prior")


def _merit(known: Known, part: Part | None) -> Vector:
    from benchmarks.truth.recommended import foretold

    told = foretold(known, part=part)
    return np.full(len(known.truth.models), np.nan) if told is None else told.merit


PREDICTORS: dict[str, Predictor] = {
    "recommendation": recommendation,
    "its evidence alone": evidence,
    "its records alone": records,
    "static list": static_list,
    "model size": size,
    "ImageNet accuracy": imagenet,
}
"""One function each, and every table of the report has it."""


def predictions(truth: Truth, scores: Mapping[str, Matrix], params: Vector, top1: Vector, /) -> dict[str, Matrix]:
    """Every predictor and estimator on every dataset, each left out in turn."""
    found: dict[str, Matrix] = {name: np.full(truth.accuracy.shape, np.nan) for name in PREDICTORS}
    for target in range(len(truth.datasets)):
        known = Known(truth, target, scores, params, top1).blind(target)
        for name, predictor in PREDICTORS.items():
            found[name][target] = predictor(known)
    return found | dict(scores)
