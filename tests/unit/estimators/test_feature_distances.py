"""MMD, proxy A-distance, OTDD, PARC and N-LEEP: definitions, invariances, degenerate input."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment

from estimators.blocks import block_ids
from estimators.catalog import SPECS, Task
from estimators.errors import Degenerate, InvalidInput
from estimators.evidence import Evidence
from estimators.mmd import mmd
from estimators.nleep import nleep
from estimators.otdd import otdd
from estimators.panel import evaluate
from estimators.parc import parc
from estimators.proxy_a_distance import proxy_a_distance
from estimators.sfda_published import sfda_published

MINE = [
    "knn",
    "linear_probe",
    "nleep",
    "parc",
    "sfda_published",
    "mmd",
    "proxy_a_distance",
    "otdd",
    "leep",
    "nce",
    "zero_shot",
]
LABELLED = [nleep, parc, sfda_published]
DISTANCES = [mmd, proxy_a_distance]


def blobs(n, d, c, seed, spread=0.8):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, c, (n,), generator=g)
    labels[: 2 * c] = torch.arange(2 * c) % c
    centres = spread * torch.randn(c, d, generator=g)
    return centres[labels] + torch.randn(n, d, generator=g), labels


def test_mmd_is_the_unbiased_estimate_at_the_median_width():
    x, _ = blobs(23, 4, 2, 0)
    z, _ = blobs(31, 4, 2, 1)
    both = [*x.double(), *z.double()]
    squared = sorted(float(((a - b) ** 2).sum()) for i, a in enumerate(both) for b in both[i + 1 :])
    width = squared[(len(squared) - 1) // 2]

    def k(a, b):
        return math.exp(-float(((a - b) ** 2).sum()) / (2 * width))

    xs, zs = both[:23], both[23:]
    within = sum(k(a, b) for i, a in enumerate(xs) for j, b in enumerate(xs) if i != j) / (23 * 22)
    other = sum(k(a, b) for i, a in enumerate(zs) for j, b in enumerate(zs) if i != j) / (31 * 30)
    across = sum(k(a, b) for a in xs for b in zs) / (23 * 31)
    score = mmd(x, z)
    assert score.diagnostics["bandwidth"] == pytest.approx(width**0.5, rel=1e-9)
    assert score.value == pytest.approx(within + other - 2 * across, abs=1e-10)


def test_mmd_is_symmetric_and_of_no_scale():
    x, _ = blobs(60, 5, 2, 0)
    z, _ = blobs(40, 5, 2, 1)
    base = mmd(x, z).value
    assert base > 0.05
    assert mmd(z, x).value == pytest.approx(base, rel=1e-9)
    assert mmd(x.double() * 1e-3 + 7, z.double() * 1e-3 + 7).value == pytest.approx(base, rel=1e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_two_samples_of_one_distribution_are_near_and_a_shift_is_far(distance):
    g = torch.Generator().manual_seed(0)
    same = [distance(torch.randn(60, 8, generator=g), torch.randn(60, 8, generator=g)).value for _ in range(15)]
    assert np.mean(same) == pytest.approx(0, abs=3.5 * np.std(same, ddof=1) / 15**0.5)
    far = distance(torch.randn(60, 8, generator=g), torch.randn(60, 8, generator=g) + 2).value
    assert far > np.mean(same) + 10 * np.std(same, ddof=1) / 15**0.5


@pytest.mark.parametrize("distance", DISTANCES)
def test_distance_states_an_error_over_target_images(distance):
    g = torch.Generator().manual_seed(0)
    reference = torch.randn(80, 4, generator=g) + 0.7
    blocks = torch.arange(80) % 10
    scores = [distance(torch.randn(80, 4, generator=g), reference, blocks=blocks) for _ in range(25)]
    spread = np.std([s.value for s in scores], ddof=1)
    assert np.mean([s.stderr for s in scores]) == pytest.approx(spread, rel=0.5)
    assert all(len(s.replicates) == 10 for s in scores)


def test_mmd_replicates_are_the_value_without_a_block_at_the_same_width():
    x, labels = blobs(50, 5, 2, 0)
    z, _ = blobs(40, 5, 2, 1)
    blocks = block_ids(labels)
    score = mmd(x, z, blocks=blocks)
    for b in range(10):
        assert score.replicates[b] == pytest.approx(mmd(x[blocks != b], z).value, abs=5e-3)
    assert np.std(score.replicates) > 0


def test_a_reference_image_that_is_always_mistaken_gives_no_error():
    x = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
    others = torch.cat([x[:89] + 50, x[89:] - 1])
    score = proxy_a_distance(x, others, blocks=torch.arange(90) % 10)
    assert score.value == pytest.approx(2 * (1 - 2 / 180))
    assert score.stderr == 0
    assert not score.diagnostics["saturated"]


def test_proxy_a_distance_is_two_when_every_image_is_told_apart():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=g)
    score = proxy_a_distance(x, x[:30] + 50)
    assert score.value == 2.0
    assert score.diagnostics["saturated"] is True
    assert score.diagnostics["rows"] == 30


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_refuse_what_they_cannot_measure(distance):
    x = torch.randn(20, 4)
    with pytest.raises(InvalidInput, match="columns"):
        distance(x, torch.randn(20, 5))
    with pytest.raises(InvalidInput, match="NaN"):
        distance(x, torch.full((20, 4), float("nan")))
    with pytest.raises(Degenerate):
        distance(x, x[:1])
    with pytest.raises(Degenerate):
        distance(torch.full((20, 4), 0.3), torch.full((20, 4), 0.3))


def test_otdd_is_the_assignment_of_least_cost_with_classes():
    x, labels = blobs(24, 3, 2, 2)
    z, other = blobs(24, 3, 3, 3)
    pooled = torch.cat([x, z]).double()
    scale = float((pooled - pooled.mean(0)).square().sum()) / 48
    a, b = x.double().numpy() / scale**0.5, z.double().numpy() / scale**0.5
    cost = np.zeros((24, 24))
    for i in range(24):
        for j in range(24):
            own, far = a[labels == labels[i]], b[other == other[j]]
            s, t = np.cov(own.T, bias=True), np.cov(far.T, bias=True)
            root = sqrtm(s)
            bures = np.trace(s + t - 2 * np.real(sqrtm(root @ t @ root)))
            cost[i, j] = ((a[i] - b[j]) ** 2).sum() + ((own.mean(0) - far.mean(0)) ** 2).sum() + bures
    expected = math.sqrt(cost[linear_sum_assignment(cost)].mean())
    score = otdd(x, labels, z, reference_labels=other)
    assert score.value == pytest.approx(expected, rel=1e-6)
    assert score.diagnostics["variance_kept"] == pytest.approx(1)
    assert otdd(z, other, x, reference_labels=labels).value == pytest.approx(score.value, rel=1e-9)


def test_otdd_of_a_dataset_with_itself_is_zero_and_with_other_labels_is_not():
    x, labels = blobs(40, 6, 3, 4)
    assert otdd(x, labels, x, reference_labels=labels).value == pytest.approx(0, abs=1e-5)
    shuffled = labels[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    assert otdd(x, labels, x, reference_labels=shuffled).value > 0.1
    assert otdd(x * 5 + 1, labels, x * 5 + 1).value == pytest.approx(otdd(x, labels, x).value, rel=1e-4)


@pytest.mark.parametrize("estimator", LABELLED)
def test_row_order_label_names_and_a_shift_do_not_matter(estimator):
    rows, labels = blobs(100, 9, 4, 5)
    rows = rows.double()
    base = estimator(rows, labels).value
    order = torch.randperm(100, generator=torch.Generator().manual_seed(1))
    renamed = torch.tensor([50, 3, 9, 7])[labels]
    assert estimator(rows[order], renamed[order]).value == pytest.approx(base, rel=1e-9)
    assert estimator(rows + 3, labels).value == pytest.approx(base, rel=1e-8)
    if estimator is not sfda_published:
        assert estimator(rows * 1000, labels).value == pytest.approx(base, rel=1e-8)


@pytest.mark.parametrize("estimator", LABELLED)
def test_labelled_estimators_refuse_what_they_cannot_score(estimator):
    rows, labels = blobs(40, 6, 3, 6)
    with pytest.raises(Degenerate, match="one class"):
        estimator(rows, torch.ones_like(labels))
    with pytest.raises(Degenerate):
        estimator(torch.full((40, 6), 0.1), labels)
    with pytest.raises(InvalidInput, match="NaN"):
        estimator(rows.masked_fill(rows > 1, float("nan")), labels)
    with pytest.raises(InvalidInput, match="classification"):
        estimator(rows, rows[:, 0])
    with pytest.raises(InvalidInput, match="classification"):
        estimator(rows, torch.ones(40, 2, dtype=torch.int64))


@pytest.mark.parametrize("estimator", LABELLED)
def test_a_constant_column_duplicates_and_a_lone_image_are_no_trouble(estimator):
    rows, labels = blobs(60, 6, 3, 7)
    rows = torch.cat([torch.cat([rows, torch.full((60, 1), 2.0)], 1)] * 2)
    labels = torch.cat([labels, labels])
    labels[7] = 99
    assert math.isfinite(estimator(rows, labels).value)


def test_better_separated_classes_score_higher():
    for estimator in LABELLED:
        near, far = blobs(150, 8, 3, 8, spread=0.4), blobs(150, 8, 3, 8, spread=2.0)
        assert estimator(*far).value > estimator(*near).value


def test_parc_without_a_pair_of_one_class_and_along_one_direction_is_degenerate():
    with pytest.raises(Degenerate, match="share a label"):
        parc(torch.randn(20, 6), torch.arange(20))
    line = torch.randn(30, 1) @ torch.ones(1, 5)
    with pytest.raises(Degenerate, match="two components"):
        parc(line.double(), torch.arange(30) % 2)


def test_parc_states_an_error_and_subsamples_by_content():
    rows, labels = blobs(120, 10, 3, 9)
    score = parc(rows, labels, blocks=block_ids(labels), max_rows=80)
    assert score.diagnostics["rows"] == 80
    assert 0 < score.stderr < 20
    order = torch.randperm(120, generator=torch.Generator().manual_seed(0))
    assert parc(rows[order], labels[order], max_rows=80).value == pytest.approx(score.value, rel=1e-9)


def test_nleep_is_seeded_and_bounds_its_components():
    rows, labels = blobs(60, 5, 4, 10)
    score = nleep(rows, labels)
    assert score.diagnostics["components"] == 12  # N/5, less than five a class
    assert nleep(rows, labels).value == score.value
    assert score.value <= 0
    assert nleep(rows, labels, covariance="spherical").value != score.value
    with pytest.raises(Degenerate, match="too few"):
        nleep(rows[:9], labels[:9])
    with pytest.raises(InvalidInput, match="covariance"):
        nleep(rows, labels, covariance="full")


@pytest.fixture(scope="module")
def evidence():
    rows, labels = blobs(60, 6, 3, 11)
    probs = torch.softmax(rows, 1)
    return Evidence(
        labels=labels,
        features=rows,
        source_probs=probs,
        reference_features=torch.randn(50, 6, generator=torch.Generator().manual_seed(0)),
        text_prototypes=torch.randn(3, 6, generator=torch.Generator().manual_seed(1)),
    )


@pytest.mark.parametrize("name", MINE)
def test_the_panel_evaluates_each_and_its_spec_tells_the_truth(evidence, name):
    found = evaluate(evidence, [name])[name]
    assert found.score is not None, (found.degenerate, found.missing)
    spec = SPECS[name]
    assert (found.score.stderr is not None) == spec.states_error == spec.takes_blocks
    assert len(found.score.replicates) == (10 if spec.takes_blocks else 0)
    bare = evaluate(evidence, [name], standard_errors=False)[name]
    assert bare.score.stderr is None
    assert bare.score.value == found.score.value


@pytest.mark.parametrize("name", MINE)
def test_the_spec_says_which_tasks(evidence, name):
    target = torch.randn(60, generator=torch.Generator().manual_seed(2))
    indicators = torch.nn.functional.one_hot(evidence.labels, 3)
    for task, labels in ((Task.REGRESSION, target), (Task.MULTILABEL, indicators)):
        other = Evidence(
            labels=labels,
            features=evidence.features,
            source_probs=evidence.source_probs,
            reference_features=evidence.reference_features,
            text_prototypes=evidence.text_prototypes,
        )
        found = evaluate(other, [name])[name]
        assert (found.score is not None) == (task in SPECS[name].tasks), found


@pytest.mark.gpu
@pytest.mark.parametrize("name", MINE)
def test_evidence_on_a_cuda_device_scores_the_same(evidence, name):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    there = Evidence(
        labels=evidence.labels.cuda(),
        features=evidence.features.cuda(),
        source_probs=evidence.source_probs.cuda(),
        reference_features=evidence.reference_features.cuda(),
        text_prototypes=evidence.text_prototypes.cuda(),
    )
    assert evaluate(there, [name])[name].score.value == pytest.approx(
        evaluate(evidence, [name])[name].score.value, rel=1e-6
    )
