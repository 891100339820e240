"""Evidence and record together: fine-tuned accuracy, foretold with an interval.

Accuracies are looked at as logits. Scores stand within their dataset, and are averaged into one: each counts by the
fourth power of its mean weighted tau with fine-tuned accuracy on the datasets known, and not at all where that is
negative. A ridge regression, in units of each dataset's own spread, says how much that average and the model's record
elsewhere count. The candidates' mean probe is the level that fine-tuning adds to, and each dataset has an offset of
its own. Few numbers, so that few outcomes suffice. Each dataset is left out in turn to choose the penalty, to widen
the intervals, and to see whether both together beat either half. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from service.recommendations.agreement import LEAST, regret, weighted_tau
from service.recommendations.table import TYPICAL_TEST, Places, Table, logit, noise_of, record, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.9
PENALTIES = (1.0, 3.0, 10.0, 30.0)
RECORD, SIZE = "record", "size"
FEWEST_DATASETS = 4
"""With an order of three models or more; below, leaving one out proves nothing."""
FEWEST_ROWS = 8
FOLDS = 10
_SHARE = 0.3  # of a dataset's squared spread that is taken to be foretold by nothing, where test images are weighed
_UNKNOWN = 0.1  # variance of the datasets' offsets before any is known; counts as two of them
_SHARPNESS = 4  # a score that agrees half as well counts a sixteenth
_EQUAL = 1e-3  # squared deviations: with less, a score is the same for all of them
_FLOOR = 0.1  # logit: no dataset's candidates are taken to be more alike than that
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
    scores: tuple[str, ...]
    shares: Floats  # of each score in their average; they sum to 1, or are all 0
    weights: Floats  # of the average and of the record, 0 for what may not speak; in spreads of the dataset
    covariance: Floats  # of the weights
    spread: float  # a known dataset's, as logit, where the target's own level does not tell
    gain: float  # logit that fine-tuning adds on a mean dataset
    of_datasets: float  # variance of the datasets' offsets
    of_pairs: float  # variance of one pair about what is foretold, test images aside, in squared spreads
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
    penalty = min(trials, key=lambda p: trials[p].within)
    fitted = _Rows(known, places, scores, part).solve(penalty)
    ratios = np.concatenate(trials[penalty].ratios)
    place = min(len(ratios) - 1, int(np.ceil(LEVEL * (len(ratios) + 1))) - 1)
    widen = float(np.sort(np.abs(ratios))[place]) / 1.6449
    proof = check(known, scores, places) if checked and part == "together" else None
    return replace(fitted, widen=widen, check=proof)


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
    x = _design(rows, fitted.places, fitted.shares, fitted.part)
    mean, spread = _levels(rows, fitted.part, fitted.spread)
    of_pairs = fitted.of_pairs * spread**2
    told = mean + spread * (x @ fitted.weights) + fitted.gain
    offset, unsure = _offset(fitted, rows, told, of_pairs)
    merit = told + offset
    seen = np.isfinite(rows.accuracy)
    if seen.any():  # what was measured here counts as much as its test images and the pairs' spread let it
        noise = noise_of(rows.only(seen))
        trust = of_pairs[seen] / (of_pairs[seen] + noise)
        merit[seen] += trust * (logit(rows.accuracy[seen], rows.n_test[seen]) - merit[seen])
        of_pairs[seen] *= 1 - trust
    accuracy = share(merit)
    centred = spread[:, None] * (x - x.mean(axis=0))
    apart = centred @ fitted.covariance @ centred.T + np.diag(of_pairs)
    variance = (
        spread**2 * ((x @ fitted.covariance) * x).sum(axis=1)
        + of_pairs
        + unsure
        + 1 / (TYPICAL_TEST * np.clip(accuracy * (1 - accuracy), 1 / TYPICAL_TEST, None))
    )
    half = fitted.widen * 1.6449 * np.sqrt(variance)
    parts = np.column_stack([rows.standing * fitted.shares * fitted.weights[0], x[:, 1] * fitted.weights[1]])
    slope = 100 * (accuracy * (1 - accuracy) * spread)[:, None]
    drivers = slope * (parts - parts.mean(axis=0))
    return Foretold(accuracy, share(merit - half), share(merit + half), merit, fitted.widen**2 * apart, drivers)


def _folds(known: Table) -> list[NDArray[np.intp]]:
    """Datasets to leave out together: each alone unless they are many."""
    datasets = np.unique(known.dataset)
    return [datasets[start::FOLDS] for start in range(min(FOLDS, len(datasets)))]


@dataclass(slots=True)
class _Trial:
    """One setting on all datasets left out: squared error about their own means, and errors in deviations stated."""

    within: float
    ratios: list[Floats]


def _left_out(known: Table, places: Places, scores: Sequence[str], part: Part) -> dict[float, _Trial]:
    trials = {penalty: _Trial(0.0, []) for penalty in PENALTIES}
    for fold in _folds(known):
        outside = ~np.isin(known.dataset, fold)
        if not outside.any():
            continue
        rows = _Rows(known.only(outside), places.without(fold), scores, part)
        for d in fold:
            one = known.only(known.dataset == d)
            x, noise = _design(one, rows.places, rows.shares, part), noise_of(one)
            mean, spread = _levels(replace(one, accuracy=np.full(len(one), np.nan)), part, rows.typical)
            for penalty, trial in trials.items():
                fitted = rows.solve(penalty)
                error = logit(one.accuracy, one.n_test) - (mean + spread * (x @ fitted.weights) + fitted.gain)
                weight = 1 / (spread**2 + noise / _SHARE)
                centred = error - (weight @ error) / weight.sum()
                own = spread**2 * (((x @ fitted.covariance) * x).sum(axis=1) + fitted.of_pairs)
                trial.within += float((weight * centred**2).sum())
                trial.ratios.append(error / np.sqrt(own + fitted.of_datasets + fitted.of_mean + noise))
    return trials


class _Rows:
    """Rows made ready once, and solved for one penalty after another."""

    def __init__(self, known: Table, places: Places, scores: Sequence[str], part: Part) -> None:
        self.known, self.places, self.scores, self.part = known, places, tuple(scores), part
        self.datasets, self.at = np.unique(known.dataset, return_inverse=True)
        self.y = logit(known.accuracy, known.n_test)
        self.noise = noise_of(known)
        self.shares = _shares(known, self.y)
        self.typical = float(np.mean([max(self.y[self.at == d].std(), _FLOOR) for d in range(len(self.datasets))]))
        self.mean, self.spread = _levels(known, part, self.typical)
        self.x = _design(known, places, self.shares, part)
        self.weight = 1 / (self.spread**2 + self.noise / _SHARE)
        self.count = np.bincount(self.at, weights=self.weight)
        scaled = self.spread[:, None] * self.x
        self.inner = np.column_stack([column - self._mean(column)[self.at] for column in scaled.T])
        self.gram = (self.inner * self.weight[:, None]).T @ self.inner

    def _mean(self, values: Floats) -> Floats:
        return np.asarray(np.bincount(self.at, weights=self.weight * values) / self.count)

    def solve(self, penalty: float) -> Fitted:
        y = self.y - self.mean
        target = y - self._mean(y)[self.at]
        weights, inverse = _not_negative(
            self.gram + penalty * np.eye(2), (self.inner * self.weight[:, None]).T @ target
        )
        rest = y - self.spread * (self.x @ weights)
        means = self._mean(rest)
        n, of = len(self.known), len(self.datasets)
        error = (rest - means[self.at]) ** 2
        within = float((self.weight * error).sum()) / max(1, n - of - 2)
        unit = float((self.weight * (error - self.noise)).sum() / (self.weight * self.spread**2).sum())
        # Medians: one dataset that fine-tuning solves to the last image must not set the level of all.
        gain = float(np.median(means))
        apart = (1.4826 * float(np.median(np.abs(means - gain)))) ** 2
        between = ((of - 1) * apart + 2 * _UNKNOWN) / (of + 1)
        level = self.known.level[np.isfinite(self.known.level)]
        return Fitted(
            part=self.part,
            scores=self.scores,
            shares=self.shares,
            weights=weights,
            covariance=within * inverse,
            spread=self.typical,
            gain=gain,
            of_datasets=between,
            of_pairs=max(unit * n / max(1, n - of - 2), 0.1 * within),
            of_mean=between / of,
            widen=1.0,
            penalty=penalty,
            places=self.places,
            n_rows=n,
            n_datasets=of,
            check=None,
            level_range=(float(level.min()), float(level.max())) if len(level) else (-np.inf, np.inf),
        )


def _shares(known: Table, y: Floats) -> Floats:
    """Of each score: a power of its mean weighted tau with what fine-tuning gave, by dataset; 0 where negative."""
    found = []
    for d in np.unique(known.dataset):
        here = known.dataset == d
        if here.sum() >= LEAST and np.ptp(y[here]) > 0:
            found.append(_taus(known.standing[here].tobytes(), y[here].tobytes()))
    if not found:
        return np.zeros(known.standing.shape[1])
    held = np.isfinite(found)
    mean = np.nansum(found, axis=0) / np.maximum(held.sum(axis=0), 1)
    powers = np.clip(mean, 0.0, None) ** _SHARPNESS
    return np.asarray(powers / powers.sum()) if powers.sum() > 0 else powers


@lru_cache(maxsize=4096)
def _taus(standing: bytes, truth: bytes) -> Floats:
    """Of each score on one dataset, NaN where it is the same for all. Leaving others out asks for it over and over."""
    y = np.frombuffer(truth)
    columns = np.frombuffer(standing).reshape(len(y), -1)
    varied = ((columns - columns.mean(axis=0)) ** 2).sum(axis=0) > _EQUAL
    return np.array([weighted_tau(of, y) if told else np.nan for of, told in zip(columns.T, varied, strict=True)])


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


def _offset(fitted: Fitted, rows: Table, told: Floats, of_pairs: Floats) -> tuple[float, float]:
    """The dataset's own offset from what outcomes on it say, drawn to none; and the variance that is left of it."""
    prior = fitted.of_datasets + fitted.of_mean
    seen = np.isfinite(rows.accuracy)
    if not seen.any():
        return 0.0, prior
    here = rows.only(seen)
    noise = noise_of(here) + of_pairs[seen]
    error = logit(here.accuracy, here.n_test) - told[seen]
    variance = 1 / (1 / prior + float((1 / noise).sum()))
    return variance * float((error / noise).sum()), variance


def _design(rows: Table, places: Places, shares: Floats, part: Part) -> Floats:
    """The scores' average and the record, 0 for what may not speak."""
    nothing = np.zeros(len(rows))
    average = nothing if part == "prior" else rows.standing @ shares
    return np.column_stack([average, nothing if part == "evidence" else record(rows, places)])


def _levels(rows: Table, part: Part, typical: float) -> tuple[Floats, Floats]:
    """Each dataset's mean level and spread: the probe's; without one the outcomes' spread, else the typical."""
    mean, spread = np.zeros(len(rows)), np.full(len(rows), typical)
    for d in np.unique(rows.dataset):
        here = rows.dataset == d
        level = rows.level[here]
        if part != "prior" and np.isfinite(level).all():
            mean[here], spread[here] = level.mean(), max(float(level.std()), _FLOOR)
        elif np.isfinite(rows.accuracy[here]).sum() >= LEAST:
            known = here & np.isfinite(rows.accuracy)
            spread[here] = max(float(logit(rows.accuracy[known], rows.n_test[known]).std()), _FLOOR)
    return mean, spread
