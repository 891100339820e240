"""Evidence and record together: fine-tuned accuracy, foretold with an interval.

Accuracies are looked at as logits. The probe's accuracy on the frozen features is the level where there is one, and a
share of it parts the models of a dataset. A ridge regression on what the other scores and the model's record say, both
standing within the dataset, gives how much fine-tuning adds; none of them counts against the model that it speaks for.
Each dataset has an offset of its own. Small enough to be fitted again whenever outcomes arrive; each dataset is left
out in turn to choose share and penalty, to widen the intervals, and to see whether both beat either half. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from service.recommendations.agreement import LEAST, regret, weighted_tau
from service.recommendations.table import TYPICAL_TEST, Places, Table, logit, noise_of, record, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.9
SLOPES = (0.0, 0.35, 0.7, 1.0)
PENALTIES = (1.0, 10.0, 100.0)
RECORD, SIZE = "record", "size"
OF_THE_CARD = frozenset({SIZE})
"""Features that are known before a model has seen an image."""
FEWEST_DATASETS = 4
"""With an order of three models or more; below, leaving one out proves nothing."""
FEWEST_ROWS = 8
FOLDS = 10
_UNKNOWN = 0.25  # variance of the datasets' offsets, where there is but one
Part = Literal["together", "evidence", "prior"]
PARTS: tuple[Part, ...] = ("together", "evidence", "prior")


@dataclass(frozen=True, slots=True, eq=False)
class Foretold:
    """Of rows of one dataset.

    Attributes:
        accuracy, low, high: expected, and the 90 % interval of an accuracy measured on `TYPICAL_TEST` images.
        merit: what orders them, as a logit; comparable within the dataset.
        apart: covariance of `merit`, without what shifts all of them alike.
        drivers: points of accuracy that each feature moves the model from the mean one `[rows, features]`.
    """

    accuracy: Floats
    low: Floats
    high: Floats
    merit: Floats
    apart: Floats
    drivers: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """What leaving each dataset out in turn says.

    Attributes:
        held: of each dataset and part: weighted tau, and regret of the first and of the first three in points.
        covered: share of accuracies inside the 90 % intervals of both together.
        absolute_error: of both together, in points.
    """

    held: dict[int, dict[Part, tuple[float, float, float]]]
    covered: float
    absolute_error: float

    def mean(self, at: int, /) -> dict[Part, float]:
        """Over the datasets that every part has foretold: 0 for tau, 1 and 2 for the regrets."""
        whole = [of for of in self.held.values() if len(of) == len(PARTS)]
        return {part: float(np.mean([of[part][at] for of in whole])) if whole else float("nan") for part in PARTS}

    @property
    def datasets(self) -> int:
        return sum(len(of) == len(PARTS) for of in self.held.values())

    @property
    def wins(self) -> bool:
        """Whether both together order better than either half, on as many datasets as can show it."""
        tau = self.mean(0)
        return self.datasets >= FEWEST_DATASETS and tau["together"] > max(tau["evidence"], tau["prior"])


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    part: Part
    features: tuple[tuple[int, str], ...]  # column of `standing`, name
    weights: Floats  # of each feature
    slope: float  # of the probe's level within a dataset
    covariance: Floats  # of the weights
    gain: float  # logit that fine-tuning adds on a mean dataset
    of_datasets: float  # variance of the datasets' offsets
    of_pairs: float  # variance of one pair about what is foretold, test images aside
    of_mean: float
    widen: float  # conformal factor on the deviations of an interval
    penalty: float
    places: Places
    n_rows: int
    n_datasets: int
    check: Check | None
    level_range: tuple[float, float]


def fit(
    known: Table,
    scores: Sequence[str],
    /,
    *,
    part: Part = "together",
    places: Places | None = None,
    checked: bool = True,
) -> Fitted | None:
    """Fitted to rows whose accuracy is known; None where they are too few to fit anything to.

    The penalty is chosen, and intervals are widened, on rows of datasets that are left out.

    Args:
        known: the rows; others than those with an accuracy are passed over.
        scores: what the columns of `known.standing` are.
        part: which features may speak.
        places: what records are made of, the rows' own included; these alone if not given.
        checked: whether both halves are held against both together.
    """
    known = known.only(np.isfinite(known.accuracy))
    datasets = np.unique(known.dataset)
    if len(known) < FEWEST_ROWS or len(datasets) < 2:
        return None
    places = known.places if places is None else places
    trials = _left_out(known, places, scores, part)
    chosen = min(trials, key=lambda setting: trials[setting].within)
    fitted = _Rows(known, places, scores, part).solve(*chosen)
    ratios = np.concatenate(trials[chosen].ratios)
    place = min(len(ratios) - 1, int(np.ceil(LEVEL * (len(ratios) + 1))) - 1)
    widen = float(np.sort(np.abs(ratios))[place]) / 1.6449
    proof = check(known, scores, places) if checked and part == "together" else None
    return replace(fitted, widen=widen, check=proof)


def left_out_error(known: Table, scores: Sequence[str], /, *, part: Part = "together") -> float:
    """Squared error about each left-out dataset's mean, at the penalty that makes it least."""
    return min(trial.within for trial in _left_out(known, known.places, scores, part).values())


def check(known: Table, scores: Sequence[str], places: Places, /) -> Check:
    """Each dataset in turn foretold by what the others say, by both halves and together; penalties chosen within."""
    held: dict[int, dict[Part, tuple[float, float, float]]] = {}
    inside: list[bool] = []
    missed: list[float] = []
    for fold in _folds(known):
        others, elsewhere = known.only(~np.isin(known.dataset, fold)), places.without(fold)
        fits = {part: fit(others, scores, part=part, places=elsewhere, checked=False) for part in PARTS}
        for d in fold:
            hidden = known.only(known.dataset == d)
            truth = hidden.accuracy
            if len(hidden) < LEAST or np.ptp(truth) == 0:
                continue
            blank = replace(hidden, accuracy=np.full(len(hidden), np.nan))
            for part, fitted in fits.items():
                if fitted is None:
                    continue
                found = foretell(fitted, blank)
                tau = weighted_tau(found.merit, truth) if np.ptp(found.merit) > 0 else 0.0
                regrets = regret(found.merit, truth, 1), regret(found.merit, truth, 3)
                held.setdefault(int(d), {})[part] = (tau, *regrets)
                if part == "together":
                    inside += list((found.low <= truth) & (truth <= found.high))
                    missed += list(100 * np.abs(found.accuracy - truth))
    return Check(
        held,
        float(np.mean(inside)) if inside else float("nan"),
        float(np.mean(missed)) if missed else float("nan"),
    )


def foretell(fitted: Fitted, rows: Table, /) -> Foretold:
    """Rows of one dataset; where some of them have an accuracy, it sets the dataset's offset."""
    x = _design(rows, fitted.places, fitted.features)
    mean, of_models = _levels(rows, fitted.part)
    level = mean + fitted.slope * of_models
    offset, unsure = _offset(fitted, rows, x, level)
    merit = level + x @ fitted.weights + fitted.gain + offset
    of_pairs = np.full(len(rows), fitted.of_pairs)
    seen = np.isfinite(rows.accuracy)
    if seen.any():  # what was measured here counts as much as its test images and the pairs' spread let it
        noise = noise_of(rows.only(seen))
        trust = of_pairs[seen] / (of_pairs[seen] + noise)
        merit[seen] += trust * (logit(rows.accuracy[seen], rows.n_test[seen]) - merit[seen])
        of_pairs[seen] *= 1 - trust
    accuracy = share(merit)
    centred = x - x.mean(axis=0)
    apart = centred @ fitted.covariance @ centred.T + np.diag(of_pairs)
    variance = (
        np.einsum("ij,jk,ik->i", x, fitted.covariance, x)
        + of_pairs
        + unsure
        + 1 / (TYPICAL_TEST * np.clip(accuracy * (1 - accuracy), 1 / TYPICAL_TEST, None))
    )
    half = fitted.widen * 1.6449 * np.sqrt(variance)
    slope = 100 * (accuracy * (1 - accuracy))[:, None]
    parts = np.column_stack([level - level.mean(), centred * fitted.weights])
    return Foretold(accuracy, share(merit - half), share(merit + half), merit, apart, slope * parts)


def _folds(known: Table) -> list[NDArray[np.intp]]:
    """Datasets to leave out together: each alone unless they are many."""
    datasets = np.unique(known.dataset)
    return [datasets[start::FOLDS] for start in range(min(FOLDS, len(datasets)))]


@dataclass(slots=True)
class _Trial:
    """One setting on all datasets left out: squared error about their own means, and errors in deviations stated."""

    within: float
    ratios: list[Floats]


def _left_out(known: Table, places: Places, scores: Sequence[str], part: Part) -> dict[tuple[float, float], _Trial]:
    trials = {setting: _Trial(0.0, []) for setting in product(SLOPES if part != "prior" else (1.0,), PENALTIES)}
    for fold in _folds(known):
        outside = ~np.isin(known.dataset, fold)
        if not outside.any():
            continue
        rows = _Rows(known.only(outside), places.without(fold), scores, part)
        hidden = [known.only(known.dataset == d) for d in fold]
        designs = [(_design(one, rows.places, rows.features), *_levels(one, part), noise_of(one)) for one in hidden]
        for (slope, penalty), trial in trials.items():
            fitted = rows.solve(slope, penalty)
            for one, (x, mean, apart, noise) in zip(hidden, designs, strict=True):
                told = mean + slope * apart + x @ fitted.weights + fitted.gain
                error = logit(one.accuracy, one.n_test) - told
                weight = 1 / (fitted.of_pairs + noise)
                centred = error - (weight @ error) / weight.sum()
                own = ((x @ fitted.covariance) * x).sum(axis=1) + fitted.of_pairs
                trial.within += float((weight * centred**2).sum() / weight.mean())
                trial.ratios.append(error / np.sqrt(own + fitted.of_datasets + fitted.of_mean + noise))
    return trials


class _Rows:
    """Rows made ready once, and solved for one setting after another."""

    def __init__(self, known: Table, places: Places, scores: Sequence[str], part: Part) -> None:
        self.known, self.places, self.part = known, places, part
        self.features = tuple((place, name) for place, name in enumerate([*scores, RECORD]) if _speaks(name, part))
        self.x = _design(known, places, self.features)
        self.level, self.apart = _levels(known, part)
        self.y = logit(known.accuracy, known.n_test) - self.level
        finite = sum(_levels(known, "evidence"))
        self.level_range = (float(np.min(finite)), float(np.max(finite)))
        self.noise = noise_of(known)
        self.weight = 1 / (self.noise + float(np.median(self.noise)))
        self.datasets, self.at = np.unique(known.dataset, return_inverse=True)
        self.count = np.bincount(self.at, weights=self.weight)
        self.inner = self.x - np.array([self._mean(column)[self.at] for column in self.x.T]).reshape(self.x.T.shape).T
        self.scaled = self.inner * (self.weight / self.weight.mean())[:, None]
        self.gram = self.scaled.T @ self.inner

    def _mean(self, values: Floats) -> Floats:
        return np.asarray(np.bincount(self.at, weights=self.weight * values) / self.count)

    def solve(self, slope: float, penalty: float) -> Fitted:
        y = self.y - slope * self.apart
        target = y - self._mean(y)[self.at]
        gram = self.gram + penalty * np.eye(len(self.features))
        weights, inverse = _not_negative(gram, self.scaled.T @ target)
        rest = y - self.x @ weights
        means = self._mean(rest)
        n, of = len(self.known), len(self.datasets)
        degrees = max(1, n - of - min(len(self.features), n // 4))
        within = float((self.weight * (rest - means[self.at]) ** 2).sum() / self.weight.mean()) / degrees
        between = float(means.var(ddof=1)) if of > 1 else _UNKNOWN
        return Fitted(
            part=self.part,
            features=self.features,
            weights=weights,
            slope=slope,
            covariance=within * inverse,
            gain=float(means.mean()),
            of_datasets=max(between - within / (n / of), 0.05 * between),
            of_pairs=max(within - float(np.average(self.noise, weights=self.weight)), 0.1 * within),
            of_mean=between / of,
            widen=1.0,
            penalty=penalty,
            places=self.places,
            n_rows=n,
            n_datasets=of,
            check=None,
            level_range=self.level_range,
        )


def _not_negative(gram: Floats, against: Floats) -> tuple[Floats, Floats]:
    """The ridge's weights and the inverse of its matrix, features of negative weight left out one by one."""
    kept = np.arange(len(against))
    weights, inverse = np.zeros(len(against)), np.zeros_like(gram)
    while len(kept):
        found = np.linalg.solve(gram[np.ix_(kept, kept)], against[kept])
        if found.min() >= 0:
            weights[kept], inverse[np.ix_(kept, kept)] = found, np.linalg.inv(gram[np.ix_(kept, kept)])
            break
        kept = np.delete(kept, int(np.argmin(found)))
    return weights, inverse


def _offset(fitted: Fitted, rows: Table, x: Floats, level: Floats) -> tuple[float, float]:
    """The dataset's own offset from what outcomes on it say, drawn to none; and the variance that is left of it."""
    prior = fitted.of_datasets + fitted.of_mean
    seen = np.isfinite(rows.accuracy)
    if not seen.any():
        return 0.0, prior
    here = rows.only(seen)
    noise = noise_of(here) + fitted.of_pairs
    error = logit(here.accuracy, here.n_test) - (level + x @ fitted.weights + fitted.gain)[seen]
    sure = float((1 / noise).sum())
    variance = 1 / (1 / prior + sure)
    return variance * float((error / noise).sum()), variance


def _speaks(name: str, part: Part) -> bool:
    return part == "together" or (name in OF_THE_CARD or name == RECORD) == (part == "prior")


def _design(rows: Table, places: Places, features: Sequence[tuple[int, str]]) -> Floats:
    columns = [record(rows, places) if name == RECORD else rows.standing[:, at] for at, name in features]
    return np.column_stack(columns) if columns else np.zeros((len(rows), 0))


def _levels(rows: Table, part: Part) -> tuple[Floats, Floats]:
    """The datasets' mean levels, and what parts each model's from it."""
    if part == "prior":
        return np.zeros(len(rows)), np.zeros(len(rows))
    level = np.where(np.isfinite(rows.level), rows.level, 0.0)
    _, at = np.unique(rows.dataset, return_inverse=True)
    mean = (np.bincount(at, weights=level) / np.bincount(at))[at]
    return mean, level - mean
