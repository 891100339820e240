"""The truth report: its measures by hand, its predictors blind to their target, and its tables on unfinished files."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau, weightedtau

from benchmarks.truth import agreement, predictors, tables
from benchmarks.truth.agreement import MEASURES, by_dataset
from benchmarks.truth.report import published_report, report
from benchmarks.truth.run import COLUMNS, finished, jobs
from service.compute.finetuning import DEFAULT

ACCURACY = np.array([0.9, 0.8, 0.7, 0.6])


def table(accuracy: np.ndarray) -> tables.Truth:
    datasets, models = (tuple(f"{kind}{i}" for i in range(n)) for kind, n in zip("dm", accuracy.shape, strict=True))
    nothing = np.full_like(accuracy, np.nan)
    return tables.Truth("made", datasets, models, accuracy, nothing, (400,) * len(datasets), np.nan, 0)


def test_measures_by_hand() -> None:
    told = np.array([1.0, 3.0, 4.0, 2.0])  # the third first, the best last
    assert MEASURES["regret@1"](ACCURACY, told) == pytest.approx(20.0)
    assert MEASURES["regret@3"](ACCURACY, told) == pytest.approx(10.0)
    assert MEASURES["top-3 hit"](ACCURACY, told) == 0.0
    assert MEASURES["top-3 hit"](ACCURACY, -told) == 1.0
    assert MEASURES["τw"](ACCURACY, told) == weightedtau(told, ACCURACY).statistic
    # By the true order, a model's place there is its weight: 1, 1/2, 1/3, 1/4; a pair's is the sum of both.
    weight = 1 / np.arange(1, 5)
    sign, total = 0.0, 0.0
    for i in range(4):
        for j in range(i):
            sign += (weight[i] + weight[j]) * np.sign((ACCURACY[i] - ACCURACY[j]) * (told[i] - told[j]))
            total += weight[i] + weight[j]
    assert MEASURES["τw by truth"](ACCURACY, told) == pytest.approx(sign / total)
    assert kendalltau(ACCURACY, told).statistic != pytest.approx(sign / total)


def test_the_list_never_sees_its_target() -> None:
    accuracy = np.random.default_rng(0).uniform(0.5, 0.9, size=(5, 6))
    nothing = np.full(6, np.nan)
    told = predictors.predictions(table(accuracy), {}, nothing, nothing)["static list"]
    changed = accuracy.copy()
    changed[2] = changed[2, ::-1]
    again = predictors.predictions(table(changed), {}, nothing, nothing)["static list"]
    assert np.array_equal(told[2], again[2])
    assert not np.array_equal(told[1], again[1])


def test_a_list_is_right_where_every_dataset_ranks_alike() -> None:
    truth = table(np.array([ACCURACY, ACCURACY - 0.1, ACCURACY**2]))
    nothing = np.full(4, np.nan)
    told = predictors.predictions(truth, {}, nothing, nothing)["static list"]
    assert by_dataset(truth.accuracy, told, MEASURES["τw"]).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert agreement.likeness(truth.accuracy) == pytest.approx((1.0, 0.0))
    found = agreement.differences(truth.accuracy, -told, truth.n_test)
    assert (found["pairs"], found["right"]) == (18, 0.0)
    assert found["correlation"] < -0.9


def test_an_interval_holds_the_mean_and_widens_with_the_spread() -> None:
    mean, low, high = agreement.mean_and_interval(np.array([0.1, 0.5, 0.9, np.nan]))
    assert low <= mean <= high
    assert mean == pytest.approx(0.5)
    assert agreement.mean_and_interval(np.full(3, 0.5)) == (0.5, 0.5, 0.5)
    assert np.isnan(agreement.mean_and_interval(np.full(3, np.nan))[0])


def test_who_knows_the_truth_is_held_back_by_the_test_images_alone() -> None:
    truth = table(np.array([ACCURACY, ACCURACY - 0.1])).accuracy
    tau, regret = MEASURES["τw"], MEASURES["regret@1"]
    exact = [agreement.knowing(truth, (10**9, 10**9), measure) for measure in (tau, regret)]
    assert exact == pytest.approx([1.0, 0.0])
    few = [agreement.knowing(truth, (50, 50), measure) for measure in (tau, regret)]
    many = [agreement.knowing(truth, (2000, 2000), measure) for measure in (tau, regret)]
    assert few[0] < many[0] <= 1
    assert few[1] > many[1] >= 0


def write(path: Path, models: int, datasets: int, *, seeds: int = 1) -> Path:
    dice = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for m in range(models):
            for d in range(datasets):
                for seed in range(seeds):
                    for rate, validation in zip(DEFAULT.rates, (0.7, 0.8), strict=True):
                        accuracy = 0.5 + 0.05 * m + 0.02 * dice.uniform() - (0.3 if validation == 0.7 else 0)
                        row = {"dataset": f"d{d}", "model": f"m{m}", "seed": seed, "rate": rate, "recipe": DEFAULT.id}
                        measured = {"accuracy": accuracy, "probe": 0.4, "validation": validation, "n_test": 400}
                        writer.writerow(row | measured | {"validation_loss": 1.0})
    return path


def test_the_learning_rate_that_the_held_images_prefer_counts(tmp_path: Path) -> None:
    truth = tables.measured(write(tmp_path / "o.csv", 3, 2, seeds=2), DEFAULT.id)
    assert truth.accuracy.shape == (2, 3)
    assert (truth.accuracy >= 0.5).all()
    assert (truth.n_test, truth.seed_pairs) == ((400, 400), 6)
    assert 0 < truth.seed_deviation < 2


def test_a_report_on_an_unfinished_file_says_so(tmp_path: Path) -> None:
    few = "\n".join(report(write(tmp_path / "few.csv", 2, 3), tmp_path / "none.csv", DEFAULT.id))
    assert "Unfinished" in few
    assert "Only 2 models" in few
    more = "\n".join(report(write(tmp_path / "more.csv", 6, 3), tmp_path / "none.csv", DEFAULT.id))
    assert "There is no none.csv" in more
    line = next(line for line in more.splitlines() if line.startswith("| static list | 3"))
    assert "1.000 [1.000, 1.000]" in line


def test_published_tables_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "published.csv"
    rows = [f"b,d{d},m{m},{0.5 + 0.1 * m + 0.01 * d}" for d in range(3) for m in range(4)]
    path.write_text("\n".join(["benchmark,dataset,model,accuracy", *rows]))
    assert any(line.startswith("| b | 3 | 4 | 1.000") for line in published_report(path))


def test_done_jobs_are_skipped_and_half_done_ones_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "o.csv", 1, 2)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")  # the last learning rate is missing
    with path.open() as file:
        assert finished(file, DEFAULT) == {("m0", "d0", 0)}
    with path.open() as file:
        assert finished(file, replace(DEFAULT, id="other")) == set()
    due = list(jobs([f"m{i}" for i in range(13)], [f"d{i}" for i in range(8)]))
    assert len(due) == len(set(due)) == 13 * 8 + 2 * 16
    assert len({job[:2] for job in due if job[2] > 0}) == 16
