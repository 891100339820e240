"""The kNN and linear probes: tasks, splits, invariances, noise, degenerate input."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import average_precision_score

from estimators._rows_quality import quality
from estimators._rows_ridge import fit_ridge
from estimators.blocks import block_ids
from estimators.errors import Degenerate, InvalidInput
from estimators.knn import knn
from estimators.linear_probe import linear_probe

PROBES = [knn, linear_probe]


def blobs(n, d, c, seed, spread=0.7):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, c, (n,), generator=g)
    labels[: 2 * c] = torch.arange(2 * c) % c
    centres = spread * torch.randn(c, d, generator=g)
    return centres[labels] + torch.randn(n, d, generator=g), labels


@pytest.mark.parametrize("probe", PROBES)
def test_row_order_label_names_and_scale_do_not_matter(probe):
    rows, labels = blobs(90, 12, 4, 0)
    blocks = block_ids(labels)
    base = probe(rows, labels, blocks=blocks)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    renamed = torch.tensor([10, 20, 40, 1000])[labels]
    again = probe(rows[order] * 8, renamed[order], blocks=blocks[order])
    assert again.value == pytest.approx(base.value, abs=1e-12)
    assert again.stderr == pytest.approx(base.stderr, abs=1e-9)
    assert probe(rows.double(), labels).value == base.value
    assert 0.3 < base.value < 1
    assert 0 < base.stderr < 0.2


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_score_as_their_values_do(probe, dtype):
    rows, labels = blobs(90, 12, 4, 0)
    rows = rows.to(dtype)
    assert probe(rows, labels).value == pytest.approx(probe(rows.double(), labels).value, abs=1e-12)


def test_a_shift_leaves_the_linear_probe_and_the_l2_neighbours():
    rows, labels = blobs(90, 12, 4, 0)
    shifted = rows.double() + 50
    assert linear_probe(shifted, labels).value == linear_probe(rows, labels).value
    assert knn(shifted, labels, metric="l2").value == knn(rows, labels, metric="l2").value


@pytest.mark.parametrize("probe", PROBES)
def test_no_label_reaches_its_own_prediction(probe):
    rows, _ = blobs(100, 300, 4, 2, spread=0.0)
    values = []
    for seed in range(12):
        labels = torch.randperm(100, generator=torch.Generator().manual_seed(seed)) % 4
        values.append(probe(rows, labels).value)
    assert np.mean(values) == pytest.approx(0.25, abs=4 * np.std(values, ddof=1) / 12**0.5)
    assert np.mean(values) < 0.35


def test_without_signal_the_linear_probe_still_states_an_error():
    stated, values = [], []
    for seed in range(20):
        labels = torch.arange(50) % 2  # blocks of five cannot be balanced: the intercept must not decide in their stead
        rows = torch.randn(50, 4, generator=torch.Generator().manual_seed(seed))
        score = linear_probe(rows, labels, blocks=block_ids(labels))
        values.append(score.value)
        stated.append(score.stderr)
    assert min(stated) > 0.01
    assert np.mean(stated) == pytest.approx(np.std(values), rel=0.6)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("labels", [torch.full((20,), 7), torch.full((20,), 0.5), torch.ones(20, 3, dtype=torch.int64)])
def test_constant_labels_are_degenerate(probe, labels):
    with pytest.raises(Degenerate):
        probe(torch.randn(20, 4), labels)


@pytest.mark.parametrize("probe", PROBES)
def test_identical_rows_are_degenerate(probe):
    with pytest.raises(Degenerate, match="identical"):
        probe(torch.full((20, 4), 0.1), torch.arange(20) % 2)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        (torch.full((20, 4), float("nan")), torch.arange(20) % 2),
        (torch.randn(20, 4).masked_fill(torch.eye(20, 4) > 0, float("inf")), torch.arange(20) % 2),
        (torch.randn(20), torch.arange(20) % 2),
        (torch.ones(20, 4, dtype=torch.int64), torch.arange(20) % 2),
        (torch.randn(20, 4), torch.arange(19) % 2),
        (torch.randn(20, 4), torch.full((20, 2), 2)),
        (torch.randn(20, 4), torch.full((20,), float("nan"))),
    ],
)
def test_malformed_input_is_invalid(probe, rows, labels):
    with pytest.raises(InvalidInput):
        probe(rows, labels)


def test_unknown_options_are_invalid():
    rows, labels = blobs(30, 5, 3, 0)
    with pytest.raises(InvalidInput, match="metric"):
        knn(rows, labels, metric="manhattan")
    with pytest.raises(InvalidInput, match="k must"):
        knn(rows, labels, k=0)
    with pytest.raises(Degenerate, match="30 neighbours"):
        knn(rows, labels, k=30)
    with pytest.raises(InvalidInput, match="go together"):
        knn(rows, labels, test_features=rows)
    with pytest.raises(InvalidInput, match="needs test rows"):
        linear_probe(rows, labels, probe="logistic")
    with pytest.raises(InvalidInput, match="probe"):
        linear_probe(rows, labels, probe="svm")
    with pytest.raises(InvalidInput, match="blocks"):
        linear_probe(rows, labels, blocks=torch.zeros(3))


def test_a_class_of_one_image_counts_as_wrong_and_is_reported():
    rows, labels = blobs(40, 6, 2, 3, spread=3.0)
    labels[5] = 9
    for probe in PROBES:
        score = probe(rows, labels)
        assert score.diagnostics["singleton_classes"] == 1
        assert score.value <= 39 / 40


def test_self_is_excluded_by_place_among_duplicates():
    rows, labels = blobs(30, 6, 2, 4)
    twice, both = torch.cat([rows, rows]), torch.cat([labels, labels])
    score = knn(twice, both, k=1)
    assert score.diagnostics["duplicates"] == 30
    assert score.value == 1.0
    assert knn(twice, torch.cat([labels, 1 - labels]), k=1).value == 0.0


def test_rows_that_tie_for_the_last_place_share_it():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [5.0, 0.1]])
    labels = torch.tensor([0, 1, 1, 0, 0])
    forward = knn(rows, labels, k=2)
    for seed in range(5):
        order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
        assert knn(rows[order], labels[order], k=2).value == forward.value


def test_close_neighbours_far_from_zero_are_still_told_apart():
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    shift = torch.tensor([6.0, 0.0, 0.0]) * labels[:, None]
    rows = 1e-3 * (torch.randn(200, 3, generator=g, dtype=torch.float64) + shift) + 100.0
    score = knn(rows, labels, metric="l2")
    assert score.value > 0.98
    cosine = knn(torch.cat([rows, torch.full((200, 1), 3.0)], 1), labels)
    assert cosine.diagnostics["exact_rows"] > 0  # float32 cannot decide: float64 does, over every row
    assert cosine.value > 0.8


def test_zero_rows_are_similar_to_nothing():
    rows, labels = blobs(40, 6, 2, 5, spread=3.0)
    rows[3] = 0
    score = knn(rows, labels)
    assert score.diagnostics["zero_rows"] == 1
    assert score.value > 0.9


@pytest.mark.parametrize("probe", PROBES)
def test_regression_is_r_squared_against_the_mean_of_the_others(probe):
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(120, 3, generator=g)
    target = rows[:, 0] * 2 + 0.1 * torch.randn(120, generator=g)
    score = probe(rows, target, blocks=block_ids(target))
    assert 0.5 < score.value < 1
    assert score.stderr is not None
    assert score.diagnostics["task"] == "regression"
    noise = [probe(rows, torch.randn(120, generator=g)).value for _ in range(8)]
    assert np.mean(noise) < 0.05
    mean_of_others = (target.double().sum() - target.double()) / 119
    assert quality("regression", mean_of_others[:, None], target.double()[:, None]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("probe", PROBES)
def test_multilabel_is_mean_average_precision(probe):
    rows, labels = blobs(120, 8, 3, 6, spread=1.5)
    indicators = torch.stack([labels == 0, labels >= 1, torch.ones_like(labels).bool()], 1).long()
    score = probe(rows, indicators, blocks=block_ids(indicators))
    assert 0.7 < score.value <= 1
    assert score.stderr is not None
    assert score.diagnostics["task"] == "multilabel"
    assert probe(rows, indicators.float()).value == score.value


def test_mean_average_precision_equals_scikit_learn_with_ties():
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 2, (60, 4), generator=g).double()
    scores = torch.randint(0, 5, (60, 4), generator=g).double() / 4
    expected = np.mean([average_precision_score(truth[:, j], scores[:, j]) for j in range(4)])
    assert quality("multilabel", scores, truth) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("probe", PROBES)
def test_a_split_is_fitted_on_one_side_and_measured_on_the_other(probe):
    rows, labels = blobs(300, 10, 3, 7)
    train, test = slice(0, 200), slice(200, 300)
    score = probe(
        rows[train],
        labels[train],
        test_features=rows[test],
        test_labels=labels[test],
        blocks=block_ids(labels[train]),
    )
    assert score.value == pytest.approx(probe(rows, labels).value, abs=0.12)
    assert 0 < score.stderr < 0.15
    shuffled = labels[train][torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    broken = probe(rows[train], shuffled, test_features=rows[test], test_labels=labels[test])
    assert broken.value < score.value - 0.15


def test_split_vote_equals_a_search_by_sorting():
    rows, labels = blobs(80, 6, 3, 8)
    distances = torch.cdist(rows[50:].double(), rows[:50].double())
    near = distances.argsort(1)[:, :3]
    votes = torch.nn.functional.one_hot(labels[:50][near], 3).sum(1)
    clear = votes.max(1).values >= 2
    score = knn(
        rows[:50], labels[:50], k=3, metric="l2", test_features=rows[50:][clear], test_labels=labels[50:][clear]
    )
    assert score.value == pytest.approx(float((votes.argmax(1) == labels[50:])[clear].double().mean()), abs=1e-12)


def test_a_class_of_the_test_side_alone_keeps_the_names_apart():
    rows, labels = blobs(100, 6, 3, 9, spread=3.0)
    train = labels != 1
    score = knn(rows[train], labels[train], test_features=rows[~train], test_labels=labels[~train])
    assert score.value == 0.0


def test_ridge_leaves_one_out_and_a_block_out_exactly():
    for n, d in ((40, 12), (30, 70)):
        g = torch.Generator().manual_seed(n)
        rows = torch.randn(n, d, generator=g, dtype=torch.float64) + 2
        values = torch.randn(n, 2, generator=g, dtype=torch.float64)
        fit = fit_ridge(rows, values, (0.3,))
        strength = 0.3 * float((rows - rows.mean(0)).square().sum()) / n
        deleted = torch.arange(n) % 5 == 1

        def refit(kept, query, rows=rows, values=values, strength=strength):
            model = Ridge(alpha=strength, solver="cholesky").fit(rows[kept].numpy(), values[kept].numpy())
            return model.predict(rows[query : query + 1].numpy())[0]

        for i in (0, 2, 7):
            others = torch.arange(n) != i
            assert fit.loo[i].numpy() == pytest.approx(refit(others, i), abs=1e-9)
            assert fit.without(deleted)[i].numpy() == pytest.approx(refit(others & ~deleted, i), abs=1e-9)
            assert fit.predict(rows, deleted=deleted)[i].numpy() == pytest.approx(refit(~deleted, i), abs=1e-9)


@pytest.mark.parametrize(("n", "d"), [(150, 8), (60, 100)])
def test_logistic_probe_equals_scikit_learn_at_the_same_penalty(n, d):
    rows, labels = blobs(2 * n, d, 3, 10, spread=0.5)
    train, test = rows[:n].double(), rows[n:].double()
    score = linear_probe(rows[:n], labels[:n], probe="logistic", test_features=rows[n:], test_labels=labels[n:])
    assert score.diagnostics["converged"] is True
    scale = float((train - train.mean(0)).square().mean()) ** 0.5
    model = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(
        ((train - train.mean(0)) / scale).numpy(), labels[:n]
    )
    expected = float(model.score(((test - train.mean(0)) / scale).numpy(), labels[n:]))
    assert score.value == pytest.approx(expected, abs=1.5 / n)
    rescaled = linear_probe(
        100 * rows[:n] + 3, labels[:n], probe="logistic", test_features=100 * rows[n:] + 3, test_labels=labels[n:]
    )
    assert rescaled.value == pytest.approx(score.value, abs=1.5 / n)


def test_logistic_probe_states_an_error_and_refuses_other_tasks():
    rows, labels = blobs(200, 6, 3, 11)
    score = linear_probe(
        rows[:100],
        labels[:100],
        probe="logistic",
        test_features=rows[100:],
        test_labels=labels[100:],
        blocks=block_ids(labels[:100]),
    )
    assert 0 < score.stderr < 0.15
    target = rows[:, 0].clone()
    with pytest.raises(InvalidInput, match="classification"):
        linear_probe(rows[:100], target[:100], probe="logistic", test_features=rows[100:], test_labels=target[100:])


def test_a_subsample_is_the_same_rows_in_any_order():
    rows, labels = blobs(200, 6, 3, 12)
    score = linear_probe(rows, labels, max_rows=80)
    assert score.diagnostics["rows"] == 80
    assert score.diagnostics["subsampled"] is True
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    assert linear_probe(rows[order], labels[order], max_rows=80).value == score.value


@pytest.mark.gpu
@pytest.mark.parametrize("probe", PROBES)
def test_rows_on_a_cuda_device_score_the_same(probe):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rows, labels = blobs(200, 16, 4, 13)
    blocks = block_ids(labels)
    here = probe(rows, labels, blocks=blocks)
    there = probe(rows.cuda(), labels.cuda(), blocks=blocks.cuda())
    assert there.value == pytest.approx(here.value, abs=1e-9)
    assert there.stderr == pytest.approx(here.stderr, rel=1e-6)
