"""What models' outcomes elsewhere say about them here, before any of them has seen a target image.

Where enough models have an outcome on the target itself, the others' are predicted from their places on the other
datasets and the words of their names, by a forest; else a model stands where its record elsewhere puts it, drawn
towards models of like names as far as it has little of one. One that has none at all stands where its card puts it too:
its size, what it was trained on, and its accuracy on ImageNet.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from service.recommendations import forest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.recommendations.forest import Floats

ENOUGH = 20
"""Outcomes on the target from which a forest is fitted to them; below, it has too few to leave any out."""
LEVEL = 0.9
_WORDS = re.compile(r"[^a-z0-9]+")
_COMMON = 3  # models that must share a word for it to count
_TOP = 3.0
_BY_SIZE = (0.0, 0.03, 0.1, 0.3, 1.0)
_BY_LACK = (0.0, 0.1, 0.3, 1.0)
_BY_IMAGENET = 0.3
"""Deviations on a dataset for one on ImageNet: what better models gain elsewhere, on pools of published accuracies."""

Basis = Literal["target", "record", "names"]


@dataclass(frozen=True, slots=True, eq=False)
class Cards:
    """What cards say of the models.

    Attributes:
        params: of the backbone `[models]`, NaN where unknown.
        imagenet: top-1 on ImageNet-1k `[models]`, NaN where there is none.
        pretrained: what they were trained on, empty where unknown.
    """

    params: Floats
    imagenet: Floats
    pretrained: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """One value a model.

    Attributes:
        value: larger is better; of no unit, and comparable within this target alone.
        stderr: of `value`, where it is stated in deviations of accuracies (`basis` record or names); else NaN.
        accuracy: expected on the target; NaN where no outcome there tells its level.
        low, high: 90 % interval of the accuracy.
        basis: `target` where outcomes on the target were learned from, `record` where the model's own elsewhere were,
            `names` where it has none and stands where its name and card put it.
        similarity: rank correlation of each other dataset's outcomes with the target's, NaN where fewer than 5 models
            have both.
    """

    value: Floats
    stderr: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    basis: tuple[Basis, ...]
    similarity: Floats


def predict(
    outcomes: Floats, target: Floats, names: Sequence[str], /, *, cards: Cards | None = None, trees: int = 200
) -> Prior:
    """The prior of every model.

    Args:
        outcomes: accuracies on the other datasets `[datasets, models]`, NaN where unknown.
        target: accuracies on the target `[models]`, NaN where unknown; all NaN for a new dataset.
        names: of the models.
        cards: of the models; they place those without a record.
        trees: of the forest.
    """
    similarity = np.array([_similarity(row, target) for row in outcomes])
    seen = np.isfinite(target)
    if seen.sum() >= ENOUGH and np.ptp(target[seen]) > 0:
        return _from_target(outcomes, target, names, similarity, trees)
    return _from_record(outcomes, names, similarity, cards)


def _from_target(outcomes: Floats, target: Floats, names: Sequence[str], similarity: Floats, trees: int) -> Prior:
    seen = np.isfinite(target)
    features = _features(outcomes, names)
    known = target[seen]
    of_all, left_out = forest.weights(features[seen], _utility(known), features, trees=trees)
    of_all[seen] = left_out  # what was known of a model says nothing about how well it was foreseen
    low, high = _quantile(of_all, known, (1 - LEVEL) / 2), _quantile(of_all, known, (1 + LEVEL) / 2)
    # Conformal: widened by what the rows that trees had not seen ask for, so that the stated share is covered.
    miss = np.sort(np.maximum(low[seen] - known, known - high[seen]))
    widen = miss[min(len(known) - 1, int(np.ceil(LEVEL * (len(known) + 1))) - 1)]
    basis: tuple[Basis, ...] = tuple("target" for _ in target)
    return Prior(
        of_all @ _utility(known),
        np.full(len(target), np.nan),
        of_all @ known,
        np.clip(low - widen, 0, 1),
        np.clip(high + widen, 0, 1),
        basis,
        similarity,
    )


def _from_record(outcomes: Floats, names: Sequence[str], similarity: Floats, cards: Cards | None) -> Prior:
    """A Gaussian process over models: each has an effect of its own, and one that its name's words share.

    Models without a record get theirs from another fit, to which cards contribute: among models with records, they
    only draw away from them.
    """
    places = np.array([_standard(row) for row in outcomes]).reshape(len(outcomes), len(names))
    counts = np.isfinite(places).sum(axis=0)
    has = counts > 0
    nothing = np.full(len(names), np.nan)
    basis: tuple[Basis, ...] = tuple("record" if known else "names" for known in has)
    if not has.any():
        return Prior(nothing, nothing, nothing, nothing, nothing, basis, similarity)
    mean = np.nansum(places[:, has], axis=0) / counts[has]
    within = np.nanvar(places[:, has] - mean)
    known = _Effects(mean, max(float(within), 0.05) / counts[has], has)
    value, variance = known.fitted(_worded(names))
    if cards is not None and not has.all():
        of_new, its_variance = _by_card(known, names, cards)
        value, variance = np.where(has, value, of_new), np.where(has, variance, its_variance)
    # On one more dataset a model strays from its mean as it did on those known.
    return Prior(value, np.sqrt(variance + within), nothing, nothing, nothing, basis, similarity)


def _by_card(known: _Effects, names: Sequence[str], cards: Cards) -> tuple[Floats, Floats]:
    """Accuracy may grow with the logarithm of size, and who has none on ImageNet may be better or worse than who has;
    with ImageNet accuracy it grows by what it did elsewhere, for few models with records do not tell how steeply.
    """
    words = _worded([f"{name} {what}" for name, what in zip(names, cards.pretrained, strict=True)])
    columns = np.log(cards.params), np.isnan(cards.imagenet).astype(np.float64), cards.imagenet
    large, lacks, good = (_known_or_mean(_standard(column)) for column in columns)
    by_size = _BY_SIZE if large.any() else (0.0,)
    by_lack = _BY_LACK if lacks.any() else (0.0,)
    return known.fitted(words, [(large, by_size), (lacks, by_lack)], _BY_IMAGENET * good)


@dataclass(frozen=True, slots=True, eq=False)
class _Effects:
    """Mean standings of the models that `has` says have a record, and their variances."""

    mean: Floats
    noise: Floats
    has: NDArray[np.bool_]

    def fitted(
        self, words: Floats, shared: Sequence[tuple[Floats, Sequence[float]]] = (), expected: Floats | None = None
    ) -> tuple[Floats, Floats]:
        """Mean and variance of every model's effect, by the strengths under which what is known is likeliest.

        Args:
            words: of each model `[models, words]`; an effect shared as far as they are.
            shared: what a further effect grows with, and by which variances it may.
            expected: effect before anything is known.
        """
        has, trend = self.has, np.zeros(len(self.has)) if expected is None else expected
        across = [np.eye(len(has))[has], words[has] @ words.T, *(np.outer(v[has], v) for v, _ in shared)]
        inner = [part[:, has] for part in across]
        error, noise = self.mean - trend[has], np.diag(self.noise)

        def solved(strengths: Sequence[float]) -> tuple[float, Floats, Floats]:
            factor: Floats = np.asarray(np.linalg.cholesky(noise + np.tensordot(strengths, inner, axes=1)))
            half: Floats = np.asarray(np.linalg.solve(factor, error))
            return -0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum()), factor, half

        choices = product((0.1, 0.3, 1.0), (0.03, 0.1, 0.3, 1.0), *(strengths for _, strengths in shared))
        best = max(choices, key=lambda strengths: solved(strengths)[0])
        _, factor, half = solved(best)
        explained = np.linalg.solve(factor, np.tensordot(best, across, axes=1))
        alone = np.array([np.ones(len(has)), (words**2).sum(axis=1), *(v**2 for v, _ in shared)])
        variance = np.tensordot(best, alone, axes=1) - (explained**2).sum(axis=0)
        return trend + explained.T @ half, np.maximum(variance, 0.0)


def _features(outcomes: Floats, names: Sequence[str]) -> Floats:
    """[models, features]: places on the other datasets, what they come to, and the words of the names."""
    shares = np.array([_shares(row) for row in outcomes]).reshape(len(outcomes), len(names))
    known = np.isfinite(shares)
    mean = np.where(known.any(axis=0), np.nansum(shares, axis=0) / np.maximum(known.sum(axis=0), 1), 0.5)
    filled = np.where(known, shares, mean)
    scores = _normal(filled)
    summary = [mean, *np.quantile(scores, (0.0, 0.2, 0.5, 0.8), axis=0)] if len(outcomes) else [mean]
    return np.column_stack([filled.T, *summary, scores.mean(axis=0) if len(outcomes) else mean, _words(names)])


def _words(names: Sequence[str]) -> Floats:
    of_each = [{word for word in _WORDS.split(name.lower()) if word} for name in names]
    counts = Counter(word for words in of_each for word in words)
    common = sorted(word for word, n in counts.items() if _COMMON <= n < len(names))
    return np.array([[word in words for word in common] for words in of_each], dtype=np.float64).reshape(len(names), -1)


def _worded(names: Sequence[str]) -> Floats:
    """[models, words], of length 1: two rows' product is the share of the words that both names have."""
    of_each = [{part for word in _WORDS.split(name.lower()) if word for part in _parts(word)} for name in names]
    every = sorted(set().union(*of_each))
    held = np.array([[word in words for word in every] for words in of_each], dtype=np.float64)
    return np.asarray(held / np.sqrt(np.maximum(held.sum(axis=1, keepdims=True), 1)))


def _parts(word: str) -> tuple[str, ...]:
    """`resnet50` is a resnet too."""
    bare = word.rstrip("0123456789")
    return (word, bare) if len(bare) > 2 and bare != word else (word,)


def _standard(row: Floats) -> Floats:
    deviation = np.nanstd(row) if np.isfinite(row).any() else 0.0
    return (row - np.nanmean(row)) / deviation if deviation > 0 else np.full_like(row, np.nan)


def _known_or_mean(standard: Floats) -> Floats:
    return np.where(np.isfinite(standard), standard, 0.0)


def _shares(row: Floats) -> Floats:
    """Share of the models that a model leaves behind on this dataset, ties halved."""
    found = np.full_like(row, np.nan)
    known = np.isfinite(row)
    if known.any():
        found[known] = (_ranks(row[known]) + 0.5) / known.sum()
    return found


def _ranks(values: Floats) -> Floats:
    ordered = np.sort(values)
    return (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2


def _normal(shares: Floats) -> Floats:
    """Normal scores, by the logistic approximation of the normal quantile: places at the ends are further apart."""
    inside = np.clip(shares, 0.001, 0.999)
    return np.asarray(np.log(inside / (1 - inside)) / 1.702)


def _utility(values: Floats) -> Floats:
    """What the forest is fitted to: places, those at the top further apart, for whoever asks wants the best ones."""
    place = len(values) - 1 - _ranks(values)
    top, normal = -np.log(place + 1 + _TOP), _normal((len(values) - place - 0.5) / len(values))
    return top / (top.std() or 1.0) + normal / (normal.std() or 1.0)


def _quantile(weights: Floats, values: Floats, share: float) -> Floats:
    order = np.argsort(values)
    passed = np.cumsum(weights[:, order], axis=1) >= share * weights.sum(axis=1, keepdims=True) - 1e-12
    return np.asarray(values[order][np.argmax(passed, axis=1)])


def _similarity(row: Floats, target: Floats) -> float:
    both = np.isfinite(row) & np.isfinite(target)
    if both.sum() < 5 or np.ptp(row[both]) == 0 or np.ptp(target[both]) == 0:
        return float("nan")
    return float(np.corrcoef(_ranks(row[both]), _ranks(target[both]))[0, 1])
