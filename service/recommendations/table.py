"""Scored pairs and records as numbers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TYPICAL_TEST = 400
FEW = 0.5
"""A record counts as if it had so many further places of 0."""


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


def record(rows: Table, places: Places) -> Floats:
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
    return np.asarray(total / (count + FEW))


def noise_of(rows: Table) -> Floats:
    """Variance of an accuracy's logit by the draw of test images."""
    spread = np.clip(rows.accuracy * (1 - rows.accuracy), 1 / rows.n_test, None)
    return np.asarray(1 / (rows.n_test * spread))
