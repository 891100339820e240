"""Evidence and record together: fine-tuned accuracy, foretold with an interval.

Accuracies are looked at as logits. The probe's accuracy on the frozen features is the level where there is one; a
ridge regression on what the other scores and the model's record say, both standing within the dataset, gives how much
fine-tuning adds to it; none of them counts against the model that it speaks for. Each dataset has an offset of its own.
Small enough to be fitted again whenever outcomes arrive; each dataset is left out in turn to choose the penalty, to
widen the intervals, and to see whether both together beat either half. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from service.recommendations.agreement import LEAST, regret, weighted_tau

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.9
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
RECORD, SIZE = "record", "size"
OF_THE_CARD = frozenset({SIZE})
"""Features that are known before a model has seen an image."""
FEWEST_DATASETS = 4
"""With an order of three models or more; below, leaving one out proves nothing."""
TYPICAL_TEST = 400
FEWEST_ROWS = 8
FOLDS = 10
_UNKNOWN = 0.25  # variance of the datasets' offsets, where there is but one
_FEW = 0.5  # a record counts as if it had so many further places of 0
Part = Literal["together", "evidence", "prior"]
PARTS: tuple[Part, ...] = ("together", "evidence", "prior")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Pairs of a dataset and a model; rows of one dataset were scored together.

    Attributes:
        dataset, model: numbers of each `[rows]`.
        level: logit of a probe's accuracy on the frozen features, NaN where none is known.
        standing: of each score within its dataset `[rows, scores]`, 0 where it is not known.
        accuracy: after fine-tuning, NaN where it is to be foretold.
        n_test: images that it was measured on.
    """

    dataset: NDArray[np.intp]
    model: NDArray[np.intp]
    level: Floats
    standing: Floats
    accuracy: Floats
    n_test: Floats

    def __len__(self) -> int:
        return len(self.dataset)

    def only(self, rows: NDArray[np.bool_] | NDArray[np.intp], /) -> Table:
        return Table(*(getattr(self, name)[rows] for name in Table.__slots__))

    @property
    def places(self) -> Places:
        """Where fine-tuned accuracy put the models, dataset by dataset."""
        known = self.only(np.isfinite(self.accuracy))
        value, found = logit(known.accuracy, known.n_test), np.zeros(len(known))
        for d in np.unique(known.dataset):
            here = known.dataset == d
            found[here] = standing(value[here])
        return Places(known.dataset, known.model, found)


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Standings of models on datasets, scored or not: what a record is made of. Numbers as in `Table`."""

    dataset: NDArray[np.intp]
    model: NDArray[np.intp]
    value: Floats

    def without(self, datasets: NDArray[np.intp], /) -> Places:
        kept = ~np.isin(self.dataset, datasets)
        return Places(self.dataset[kept], self.model[kept], self.value[kept])


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


def standing(values: Floats, /) -> Floats:
    """Deviations from the mean of the dataset's candidates, 0 where unknown; drawn in where candidates are few."""
    known = np.isfinite(values)
    found = np.zeros(len(values))
    spread = values[known].std() if known.sum() > 1 else 0.0
    if spread > 0:
        found[known] = (values[known] - values[known].mean()) / spread * (known.sum() / (known.sum() + 1))
    return found


def logit(share: Floats | float, n: Floats | float = TYPICAL_TEST, /) -> Floats:
    """Of a share of n images; half an image is added on both sides, so that all and none stay finite."""
    right = np.asarray(share, dtype=np.float64) * n
    return np.asarray(np.log((right + 0.5) / (np.asarray(n) - right + 0.5)))


def share(value: Floats, /) -> Floats:
    return np.asarray(1 / (1 + np.exp(-value)))


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
    left_out = {p: list(_left_out(known, places, scores, part, p)) for p in PENALTIES}
    penalty = min(PENALTIES, key=lambda p: sum(within for within, _ in left_out[p]))
    fitted = _solve(known, places, scores, part, penalty)
    ratios = np.concatenate([found for _, found in left_out[penalty]])
    place = min(len(ratios) - 1, int(np.ceil(LEVEL * (len(ratios) + 1))) - 1)
    widen = float(np.sort(np.abs(ratios))[place]) / 1.6449
    proof = check(known, scores, places) if checked and part == "together" else None
    return replace(fitted, widen=widen, check=proof)


def left_out_error(known: Table, scores: Sequence[str], /, *, part: Part = "together") -> float:
    """Squared error about each left-out dataset's mean, at the penalty that makes it least."""
    return min(sum(within for within, _ in _left_out(known, known.places, scores, part, p)) for p in PENALTIES)


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
    level = _level(rows, fitted.part)
    offset, unsure = _offset(fitted, rows, x, level)
    merit = level + x @ fitted.weights + fitted.gain + offset
    of_pairs = np.full(len(rows), fitted.of_pairs)
    seen = np.isfinite(rows.accuracy)
    if seen.any():  # what was measured here counts as much as its test images and the pairs' spread let it
        noise = _noise(rows.only(seen))
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


def _left_out(
    known: Table, places: Places, scores: Sequence[str], part: Part, penalty: float
) -> Iterator[tuple[float, Floats]]:
    """Of each dataset left out: weighted squared error about its own mean, and errors in deviations stated."""
    for fold in _folds(known):
        outside = ~np.isin(known.dataset, fold)
        if not outside.any():
            continue
        fitted = _solve(known.only(outside), places.without(fold), scores, part, penalty)
        for d in fold:
            hidden = known.only(known.dataset == d)
            x, level = _design(hidden, fitted.places, fitted.features), _level(hidden, part)
            error = logit(hidden.accuracy, hidden.n_test) - (level + x @ fitted.weights + fitted.gain)
            noise = _noise(hidden)
            weight = 1 / (fitted.of_pairs + noise)
            centred = error - np.average(error, weights=weight)
            own = np.einsum("ij,jk,ik->i", x, fitted.covariance, x) + fitted.of_pairs
            ratios = error / np.sqrt(own + fitted.of_datasets + fitted.of_mean + noise)
            yield float((weight * centred**2).sum() / weight.mean()), ratios


def _solve(known: Table, places: Places, scores: Sequence[str], part: Part, penalty: float) -> Fitted:
    features = tuple((place, name) for place, name in enumerate([*scores, RECORD]) if _speaks(name, part))
    x = _design(known, places, features)
    y = logit(known.accuracy, known.n_test) - _level(known, part)
    noise = _noise(known)
    datasets, at = np.unique(known.dataset, return_inverse=True)
    weight = 1 / (noise + float(np.median(noise)))
    count = np.bincount(at, weights=weight)

    def centre(values: Floats) -> Floats:
        sums = [np.bincount(at, weights=weight * column) / count for column in values.T]
        return np.asarray(values - np.array(sums).reshape(values.shape[1], len(count)).T[at])

    inner, target = centre(x), centre(y[:, None])[:, 0]
    gram = (inner * weight[:, None]).T @ inner / weight.mean() + penalty * np.eye(len(features))
    weights, inverse = _not_negative(gram, (inner * weight[:, None]).T @ target / weight.mean())
    rest = y - x @ weights
    means = np.bincount(at, weights=weight * rest) / count
    degrees = max(1, len(known) - len(datasets) - min(len(features), len(known) // 4))
    within = float((weight * (rest - means[at]) ** 2).sum() / weight.mean()) / degrees
    of_pairs = max(within - float(np.average(noise, weights=weight)), 0.1 * within)
    between = float(means.var(ddof=1)) if len(means) > 1 else _UNKNOWN
    of_datasets = max(between - within / (len(known) / len(datasets)), 0.05 * between)
    finite = _level(known, "evidence")
    return Fitted(
        part=part,
        features=features,
        weights=weights,
        covariance=within * inverse,
        gain=float(means.mean()),
        of_datasets=of_datasets,
        of_pairs=of_pairs,
        of_mean=between / len(datasets),
        widen=1.0,
        penalty=penalty,
        places=places,
        n_rows=len(known),
        n_datasets=len(datasets),
        check=None,
        level_range=(float(finite.min()), float(finite.max())),
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
    noise = _noise(here) + fitted.of_pairs
    error = logit(here.accuracy, here.n_test) - (level + x @ fitted.weights + fitted.gain)[seen]
    sure = float((1 / noise).sum())
    variance = 1 / (1 / prior + sure)
    return variance * float((error / noise).sum()), variance


def _speaks(name: str, part: Part) -> bool:
    return part == "together" or (name in OF_THE_CARD or name == RECORD) == (part == "prior")


def _design(rows: Table, places: Places, features: Sequence[tuple[int, str]]) -> Floats:
    columns = [_record(rows, places) if name == RECORD else rows.standing[:, at] for at, name in features]
    return np.column_stack(columns) if columns else np.zeros((len(rows), 0))


def _record(rows: Table, places: Places) -> Floats:
    """Mean standing of the model on datasets other than the row's, drawn to 0 where it has few."""
    models = int(max(rows.model.max(initial=0), places.model.max(initial=0))) + 1
    total = np.bincount(places.model, weights=places.value, minlength=models)[rows.model]
    count = np.bincount(places.model, minlength=models)[rows.model]
    key, own = rows.dataset * models + rows.model, places.dataset * models + places.model
    pairs, at = np.unique(own, return_inverse=True)
    if len(pairs):
        found = np.minimum(np.searchsorted(pairs, key), len(pairs) - 1)
        same = pairs[found] == key
        total = total - same * np.bincount(at, weights=places.value)[found]
        count = count - same * np.bincount(at)[found]
    return np.asarray(total / (count + _FEW))


def _level(rows: Table, part: Part) -> Floats:
    if part == "prior":
        return np.zeros(len(rows))
    return np.where(np.isfinite(rows.level), rows.level, 0.0)


def _noise(rows: Table) -> Floats:
    """Variance of an accuracy's logit by the draw of test images."""
    spread = np.clip(rows.accuracy * (1 - rows.accuracy), 1 / rows.n_test, None)
    return np.asarray(1 / (rows.n_test * spread))
