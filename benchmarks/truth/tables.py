"""Truth and scores as matrices of datasets x models, out of CSV files that may be unfinished."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.truth.agreement import Matrix

HERE = Path(__file__).parent
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Fine-tuned accuracies `[datasets, models]`, NaN where there is none; with the linear probe's, where measured."""

    name: str
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    accuracy: Matrix
    probe: Matrix
    n_test: tuple[int, ...]
    seed_deviation: float  # of one pair's accuracy between seeds, in points; NaN where no pair has several
    seed_pairs: int

    def only(self, models: Iterable[str], /) -> "Truth":
        kept = [self.models.index(name) for name in models]
        return replace(
            self,
            models=tuple(self.models[i] for i in kept),
            accuracy=self.accuracy[:, kept],
            probe=self.probe[:, kept],
        )

    @property
    def complete(self) -> tuple[str, ...]:
        """Models measured on every dataset."""
        return tuple(m for m, column in zip(self.models, self.accuracy.T, strict=True) if np.isfinite(column).all())


def measured(path: Path, recipe: str, /) -> Truth:
    """The runner's file: of each pair and seed, the learning rate that the validation images prefer."""
    trials: dict[tuple[str, str, int], list[Row]] = defaultdict(list)
    for row in read(path):
        if row["recipe"] == recipe:
            trials[row["dataset"], row["model"], int(row["seed"])].append(row)
    chosen = {key: max(rows, key=_preference) for key, rows in trials.items()}
    datasets = tuple(dict.fromkeys(key[0] for key in chosen))
    models = tuple(dict.fromkeys(key[1] for key in chosen))
    accuracy, probe = (np.full((len(datasets), len(models)), np.nan) for _ in range(2))
    n_test = [0] * len(datasets)
    seeds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (dataset, model, seed), row in chosen.items():
        seeds[dataset, model].append(float(row["accuracy"]))
        if seed == 0:
            at = datasets.index(dataset), models.index(model)
            accuracy[at], probe[at] = float(row["accuracy"]), float(row["probe"])
            n_test[at[0]] = int(row["n_test"])
    several = [values for values in seeds.values() if len(values) > 1]
    deviation = 100 * float(np.sqrt(np.mean([np.var(v, ddof=1) for v in several]))) if several else np.nan
    return Truth(
        f"fine-tuned here, recipe {recipe}", datasets, models, accuracy, probe, tuple(n_test), deviation, len(several)
    )


def published(path: Path, /) -> list[Truth]:
    """One table a benchmark of the published accuracies; a pair's recipes are averaged."""
    cells: dict[str, dict[tuple[str, str], list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in read(path):
        cells[row["benchmark"]][row["dataset"], row["model"]].append(float(row["accuracy"]))
    return [_table(name, found) for name, found in cells.items()]


def scores(path: Path, truth: Truth, /) -> dict[str, Matrix]:
    """Each estimator's values, larger is better, for the pairs of the truth."""
    found: dict[str, Matrix] = {}
    for row in read(path):
        if row["dataset"] in truth.datasets and row["model"] in truth.models and row["value"]:
            matrix = found.setdefault(row["estimator"], np.full(truth.accuracy.shape, np.nan))
            sign = 1.0 if row["direction"] == "higher" else -1.0
            matrix[truth.datasets.index(row["dataset"]), truth.models.index(row["model"])] = sign * float(row["value"])
    return found


def published_scores(path: Path, truth: Truth, /) -> dict[str, Matrix]:
    """Estimators' scores as published with the pool, larger is better."""
    found: dict[str, Matrix] = {}
    for row in read(path):
        if row["benchmark"] == truth.name and row["dataset"] in truth.datasets and row["model"] in truth.models:
            matrix = found.setdefault(row["estimator"], np.full(truth.accuracy.shape, np.nan))
            matrix[truth.datasets.index(row["dataset"]), truth.models.index(row["model"])] = float(row["score"])
    return found


def read(path: Path, /) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _preference(row: Row) -> tuple[float, float]:
    return float(row["validation"]), -float(row["validation_loss"])


def _table(name: str, cells: Mapping[tuple[str, str], Sequence[float]]) -> Truth:
    datasets = tuple(dict.fromkeys(dataset for dataset, _ in cells))
    models = tuple(dict.fromkeys(model for _, model in cells))
    accuracy = np.full((len(datasets), len(models)), np.nan)
    for (dataset, model), values in cells.items():
        accuracy[datasets.index(dataset), models.index(model)] = float(np.mean(values))
    nothing = np.full_like(accuracy, np.nan)
    return Truth(name, datasets, models, accuracy, nothing, (10_000,) * len(datasets), np.nan, 0)
