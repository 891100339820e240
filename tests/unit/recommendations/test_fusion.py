"""What is foretold of made-up fine-tuning, whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.stats import weightedtau

from service.recommendations import fusion
from service.recommendations import table as table_of
from service.recommendations.agreement import mean_and_interval, regret, weighted_tau
from service.recommendations.knowledge import Numbered, Pair, Place, pairs_of, shipped
from service.recommendations.table import Table


def made(datasets: int, models: int = 12, *, record: float = 0.0, seed: int = 0, noise: float = 0.15) -> Table:
    """Fine-tuning adds what one score says, what a model is worth anywhere, an offset a dataset, and chance.

    The second score says nothing.
    """
    rng = np.random.default_rng(seed)
    d, m = (axis.ravel() for axis in np.mgrid[:datasets, :models])
    standing = rng.standard_normal((len(d), 2))
    level = rng.normal(0.8, 0.7, datasets)[d] + rng.normal(0, 0.3, len(d))
    worth = record * rng.standard_normal(models)
    value = level + 0.3 * standing[:, 0] + worth[m] + rng.normal(0.4, 0.3, datasets)[d] + rng.normal(0, noise, len(d))
    n = np.full(len(d), 400.0)
    return Table(d, m, level, standing, rng.binomial(400, table_of.share(value)) / 400, n)


@pytest.mark.parametrize("n", [3, 7, 40])
def test_weighted_tau_is_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        told, truth = rng.integers(0, n, n).astype(float), rng.standard_normal(n)
        if np.ptp(told) > 0:
            assert weighted_tau(told, truth) == pytest.approx(weightedtau(told, truth).statistic, abs=1e-12)
    assert np.isnan(weighted_tau(np.zeros(4), np.arange(4.0)))


def test_regret_and_interval_by_hand() -> None:
    truth, told = np.array([0.9, 0.8, 0.7, 0.6]), np.array([1.0, 3.0, 4.0, 2.0])
    assert regret(told, truth, 1) == pytest.approx(20)
    assert regret(told, truth, 3) == pytest.approx(10)
    assert mean_and_interval(np.array([0.5, 0.5, np.nan])) == (0.5, 0.5, 0.5)
    assert np.isnan(mean_and_interval(np.array([0.5]))[1])


def test_what_counts_is_found_and_what_does_not_is_left_out() -> None:
    fitted = fusion.fit(made(10), ("useful", "noise"), checked=False)
    assert fitted is not None
    useful, noise = fitted.shares
    assert useful > 5 * noise
    assert useful + noise == pytest.approx(1)
    assert fitted.weights[0] > 5 * fitted.weights[1]  # records are worth nothing here
    assert fitted.gain == pytest.approx(0.4, abs=0.3)


def test_weights_are_those_of_nonnegative_least_squares() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        x, y = rng.standard_normal((50, 4)), rng.standard_normal(50)
        weights, _ = fusion._not_negative(x.T @ x + np.eye(4), x.T @ y)
        expected, _ = nnls(np.vstack([x, np.eye(4)]), np.r_[y, np.zeros(4)])
        assert weights == pytest.approx(expected, abs=1e-8)


def test_intervals_cover_as_often_as_they_say_on_new_datasets() -> None:
    inside = []
    for seed in range(3):
        everything = made(30, record=0.2, seed=seed)
        known, new = everything.only(everything.dataset < 10), everything.only(everything.dataset >= 10)
        fitted = fusion.fit(known, ("useful", "noise"), checked=False)
        assert fitted is not None
        for d in np.unique(new.dataset):
            rows = new.only(new.dataset == d)
            told = fusion.foretell(fitted, replace(rows, accuracy=np.full(len(rows), np.nan)))
            inside += list((told.low <= rows.accuracy) & (rows.accuracy <= told.high))
    assert 0.84 <= np.mean(inside) <= 0.97


def test_both_together_beat_both_halves_where_both_know_something() -> None:
    fitted = fusion.fit(made(7, record=0.3), ("useful", "noise"))
    assert fitted is not None
    assert fitted.check is not None
    tau = fitted.check.mean(0)
    assert fitted.check.wins
    assert tau["together"] > tau["evidence"] > 0.3
    assert fitted.check.datasets == 7
    few = fusion.fit(made(3, record=0.3), ("useful", "noise"))
    assert few is not None
    assert few.check is not None
    assert not few.check.wins  # three datasets left out in turn prove nothing


def test_records_without_worth_do_not_win_by_right() -> None:
    wins = 0
    for seed in range(3):
        fitted = fusion.fit(made(5, record=0.0, seed=seed), ("useful", "noise"))
        wins += fitted is not None and fitted.check is not None and fitted.check.wins
    assert wins < 3


def test_an_outcome_on_the_target_moves_the_others_and_settles_its_own() -> None:
    everything = made(9, record=0.2)
    known, rows = everything.only(everything.dataset < 8), everything.only(everything.dataset == 8)
    fitted = fusion.fit(known, ("useful", "noise"), checked=False)
    assert fitted is not None
    blank = replace(rows, accuracy=np.full(len(rows), np.nan))
    before = fusion.foretell(fitted, blank)
    accuracy = blank.accuracy.copy()
    accuracy[0] = before.high[0]  # far better than expected
    after = fusion.foretell(fitted, replace(blank, accuracy=accuracy))
    assert np.all(after.merit[1:] > before.merit[1:])
    assert after.merit[0] - before.merit[0] > (after.merit - before.merit)[1:].max()
    assert after.high[0] - after.low[0] < before.high[0] - before.low[0]


def test_a_dataset_left_out_is_not_looked_at() -> None:
    """However its outcomes are dealt, what is foretold of it stays: by weights, records and intervals."""
    known = made(6, record=0.2)
    here = known.dataset == 2
    accuracy = known.accuracy.copy()
    accuracy[here] = accuracy[here][::-1]
    blank = replace(known.only(here), accuracy=np.full(here.sum(), np.nan))
    told = []
    for table in (known, replace(known, accuracy=accuracy)):
        places = table.places.without(np.array([2]))
        fitted = fusion.fit(table.only(~here), ("useful", "noise"), places=places, checked=False)
        assert fitted is not None
        told.append(fusion.foretell(fitted, blank))
    assert np.array_equal(told[0].merit, told[1].merit)
    assert np.array_equal(told[0].high, told[1].high)


def test_too_little_gives_no_fit() -> None:
    known = made(8)
    assert fusion.fit(known.only(np.arange(5)), ("useful", "noise")) is None
    assert fusion.fit(known.only(known.dataset == 0), ("useful", "noise")) is None


def test_standing_is_drawn_in_where_candidates_are_few() -> None:
    assert np.abs(table_of.standing(np.array([1.0, 2.0]))).max() == pytest.approx(2 / 3)
    assert table_of.standing(np.array([1.0, np.nan, 3.0]))[1] == 0
    assert not table_of.standing(np.full(3, 7.0)).any()
    assert np.isfinite(table_of.logit(np.array([0.0, 1.0]))).all()


def test_pairs_become_tables_and_places() -> None:
    scores = {"a": {"linear_probe": 0.8, "logme": 1.0}, "b": {"linear_probe": 0.6, "logme": 0.0}, "c": {"logme": 0.5}}
    pairs = pairs_of("flowers", scores, {"a": 10, "b": 1000, "c": None}, accuracy={"a": 0.9}, n_test={"a": 50})
    numbered = Numbered.of(pairs, [Place("other", "b", 0.7), Place("other", "a", 0.5)])
    table = numbered.table(pairs, ("logme", "size"), "linear_probe")
    assert np.isnan(table.level[2])
    assert table.standing[:, 0].argmax() == 0
    assert table.standing[:, 1] == pytest.approx([-2 / 3, 2 / 3, 0.0])
    assert (table.accuracy[0], table.n_test[0]) == (0.9, 50)
    places = numbered.places([Place("other", "b", 0.7), Place("other", "a", 0.5)], pairs)
    record = table_of.record(table, places)
    assert record[1] > 0 > record[0]
    assert record[2] == 0


def test_what_ships_is_what_its_rows_give() -> None:
    """The weights stand beside the rows to be read; fitted again they are the same."""
    held = shipped()
    for probe, said in held.about["fitted_on"].items():
        pairs = [p for p in held.pairs if probe in p.probes]
        kept = list(held.estimators)
        numbered = Numbered.of(pairs)
        fitted = fusion.fit(numbered.table(pairs, kept, probe), kept, places=numbered.places((), pairs), checked=False)
        assert fitted is not None
        assert fitted.shares == pytest.approx(list(said["shares"].values()), abs=1e-4)
        assert fitted.weights == pytest.approx(said["weights"], abs=1e-4)
    assert held.about["rows"] == len(held.pairs)
    assert all(isinstance(p, Pair) and p.dataset in held.seen for p in held.pairs)
