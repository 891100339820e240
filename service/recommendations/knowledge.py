"""What fitting learns from: scored pairs with an outcome, and records without scores. Pure."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.recommendations.table import Places, Table

PROBES = ("linear_probe", "lda", "knn")
"""Accuracies on the frozen features (of LDA the mean held-out probability), the better level first."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A model that was scored on a dataset.

    Attributes:
        dataset: whatever names it; another recipe on the same images is another one.
        probes: accuracies on frozen features, by estimator.
        standing: of its scores and its size among the models scored with it, larger is better.
        accuracy: after fine-tuning, None where it is to be foretold.
        n_test: images that it was measured on, where known.
    """

    dataset: str
    model: str
    probes: Mapping[str, float]
    standing: Mapping[str, float]
    accuracy: float | None = None
    n_test: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """An accuracy of a model on a dataset of a pool, where only those of one dataset and pool compare."""

    dataset: str
    model: str
    accuracy: float


@dataclass(frozen=True, slots=True)
class Shipped:
    """What was measured before: `benchmarks/truth`, fitted by `python -m benchmarks.truth.fit`."""

    pairs: tuple[Pair, ...]
    about: Mapping[str, Any]
    seen: Mapping[str, Mapping[str, Any]]  # fingerprint, classes and images of each dataset

    @property
    def estimators(self) -> tuple[str, ...]:
        """Those whose share in the average was not nothing."""
        return tuple(self.about["kept"])


@cache
def shipped() -> Shipped:
    folder = files(__package__).joinpath("data")
    about = json.loads(folder.joinpath("fusion.json").read_text(encoding="utf-8"))
    text = folder.joinpath("pairs.csv").read_text(encoding="utf-8")
    return Shipped(tuple(map(_pair, csv.DictReader(text.splitlines()))), about, about["seen"])


def _pair(row: Mapping[str, str]) -> Pair:
    further = {k: float(v) for k, v in row.items() if k.startswith("standing:") and v}
    return Pair(
        row["dataset"],
        row["model"],
        {name: float(row[name]) for name in PROBES if row[name]},
        {name.removeprefix("standing:"): value for name, value in further.items()},
        float(row["accuracy"]),
        int(row["n_test"]),
    )


def pairs_of(
    dataset: str,
    scores: Mapping[str, Mapping[str, float]],
    params: Mapping[str, int | None],
    /,
    *,
    accuracy: Mapping[str, float] | None = None,
    n_test: Mapping[str, int | None] | None = None,
) -> list[Pair]:
    """Pairs of the models that were scored together.

    Args:
        dataset: names it.
        scores: by model and estimator, larger is better.
        params: of each model.
        accuracy: after fine-tuning, of those models where it is known.
        n_test: images that it was measured on.
    """
    import numpy as np

    from service.recommendations.fusion import SIZE
    from service.recommendations.table import standing

    models = list(scores)
    names = dict.fromkeys(name for of_model in scores.values() for name in of_model)
    columns = {name: standing(np.array([scores[model].get(name, np.nan) for model in models])) for name in names}
    columns[SIZE] = standing(np.array([np.log(size) if (size := params.get(m)) else np.nan for m in models]))
    return [
        Pair(
            dataset,
            model,
            {name: scores[model][name] for name in PROBES if name in scores[model]},
            {name: float(column[at]) for name, column in columns.items()},
            (accuracy or {}).get(model),
            (n_test or {}).get(model),
        )
        for at, model in enumerate(models)
    ]


@dataclass(frozen=True, slots=True)
class Numbered:
    """Datasets and models as numbers, the same for every table made with it."""

    datasets: Mapping[str, int]
    models: Mapping[str, int]

    @classmethod
    def of(cls, pairs: Iterable[Pair], places: Iterable[Place] = ()) -> Numbered:
        both = [*((p.dataset, p.model) for p in pairs), *((p.dataset, p.model) for p in places)]
        datasets, models = (dict.fromkeys(pair[side] for pair in both) for side in (0, 1))
        return cls(
            {name: at for at, name in enumerate(datasets)},
            {name: at for at, name in enumerate(models)},
        )

    def table(self, pairs: Sequence[Pair], scores: Sequence[str], probe: str | None) -> Table:
        import numpy as np

        from service.recommendations.table import TYPICAL_TEST, Table, logit

        level = np.array([np.nan if probe is None else p.probes.get(probe, np.nan) for p in pairs], dtype=np.float64)
        found = np.array([[p.standing.get(name, 0.0) for name in scores] for p in pairs], dtype=np.float64)
        return Table(
            np.array([self.datasets[p.dataset] for p in pairs], dtype=np.intp),
            np.array([self.models[p.model] for p in pairs], dtype=np.intp),
            logit(level),
            found.reshape(len(pairs), len(scores)),
            np.array([np.nan if p.accuracy is None else p.accuracy for p in pairs], dtype=np.float64),
            np.array([p.n_test or TYPICAL_TEST for p in pairs], dtype=np.float64),
        )

    def places(self, places: Sequence[Place], pairs: Sequence[Pair]) -> Places:
        """Standings within each dataset; a pair's own outcome is a place too."""
        import numpy as np

        from service.recommendations.table import Places, logit, standing

        known = [*places, *(Place(p.dataset, p.model, p.accuracy) for p in pairs if p.accuracy is not None)]
        dataset = np.array([self.datasets[p.dataset] for p in known], dtype=np.intp)
        value = np.array([float(logit(p.accuracy)) for p in known], dtype=np.float64)
        order = np.argsort(dataset, kind="stable")
        for of_one in np.split(order, np.flatnonzero(np.diff(dataset[order])) + 1):
            value[of_one] = standing(value[of_one])
        return Places(dataset, np.array([self.models[p.model] for p in known], dtype=np.intp), value)
