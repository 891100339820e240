"""The published variants and the kNN vote against loop-by-loop oracles, and the oracles against their goldens."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from estimators.blocks import block_ids
from estimators.knn import knn
from estimators.parc import parc
from estimators.ped import moved_rows
from estimators.sfda_published import sfda_published
from estimators.shared import Options
from tests.oracles import features_knn, features_parc, features_ped_sfda, features_sfda

TRUTH = Path(__file__).parents[3] / "../shared/data/truth"


def blobs(n, d, c, seed, spread=2.0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, c, (n,), generator=g)
    labels[:c] = torch.arange(c)
    centres = spread * torch.randn(c, d, generator=g, dtype=torch.float64)
    rows = centres[labels] + torch.randn(n, d, generator=g, dtype=torch.float64)
    return (rows * torch.linspace(0.5, 1.5, d, dtype=torch.float64) + 1).to(dtype), labels


def office(name):
    path = TRUTH / f"office31_{name}.npz"
    if not path.exists():
        pytest.skip("no shared data beside the project")
    data = np.load(path)
    return torch.from_numpy(data["features"]), torch.from_numpy(data["labels"])


def test_sfda_oracle_gives_the_released_code_s_figures_on_noise():
    rng = np.random.default_rng(0)
    narrow = [features_sfda.sfda(rng.standard_normal((500, 32)), rng.integers(0, 10, 500)) for _ in range(3)]
    assert np.mean(narrow) == pytest.approx(0.106, abs=0.003)
    wide = features_sfda.sfda(rng.standard_normal((200, 400)), rng.integers(0, 10, 200))
    assert wide == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("n", "d", "c", "scale"), [(60, 8, 3, 1.0), (120, 20, 5, 0.1), (40, 60, 4, 0.3), (80, 5, 2, 0.01)]
)
def test_sfda_equals_the_transcription(n, d, c, scale):
    rows, labels = blobs(n, d, c, seed=n, spread=0.5)
    rows *= scale
    expected = features_sfda.sfda(rows.numpy(), labels.numpy())
    assert sfda_published(rows, labels).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["dslr", "webcam"])
def test_sfda_equals_the_transcription_on_office31(name):
    rows, labels = office(name)
    expected = features_sfda.sfda(rows.numpy(), labels.numpy())
    assert sfda_published(rows, labels).value == pytest.approx(expected, abs=1e-6)


def test_sfda_leaves_its_arguments_alone_and_reports_saturation():
    rows, labels = blobs(30, 50, 3, seed=1)
    before = rows.clone()
    score = sfda_published(rows, labels)
    assert torch.equal(rows, before)
    assert score.diagnostics["saturated"] is True
    assert score.stderr is None


def test_parc_oracle_ranks_and_correlates_as_scipy_and_numpy_do():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 5, 200).astype(float), rng.integers(0, 3, 200).astype(float)
    ours = features_parc.correlation(features_parc.ranks(a), features_parc.ranks(b))
    assert ours == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert features_parc.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)


@pytest.mark.parametrize(("n", "d", "c"), [(50, 40, 3), (64, 200, 5), (70, 33, 2)])
def test_parc_published_equals_the_transcription(n, d, c):
    rows, labels = blobs(n, d, c, seed=d)
    expected = features_parc.parc(rows.numpy(), labels.numpy())
    assert parc(rows, labels, variant="published").value == pytest.approx(expected, abs=1e-6)


@pytest.mark.shared
def test_parc_published_equals_the_transcription_on_office31():
    rows, labels = office("dslr")
    expected = features_parc.parc(rows.numpy(), labels.numpy())
    assert parc(rows, labels, variant="published").value == pytest.approx(expected, abs=1e-6)


def test_parc_exact_is_the_transcription_after_an_exact_projection():
    rows, labels = blobs(60, 40, 4, seed=9)
    centred = (rows - rows.mean(0)).numpy()
    u, _, vt = np.linalg.svd(centred, full_matrices=False)
    u = u * np.sign(np.take_along_axis(vt, np.abs(vt).argmax(1)[:, None], 1))[:, 0]  # rows correlate as signs go
    expected = features_parc.parc(None, labels.numpy(), projected=u[:, :32] * np.sqrt(60))
    assert parc(rows, labels).value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_knn_equals_the_sorted_vote_with_ties_and_duplicates(metric, k):
    g = torch.Generator().manual_seed(k)
    rows = torch.randint(-1, 2, (40, 4), generator=g).float() + torch.tensor([3.0, 0.0, 0.0, 0.0])
    labels = torch.randint(0, 3, (40,), generator=g)
    blocks = block_ids(labels, n_blocks=3)  # three blocks have no interaction to take out: replicates are plain
    score = knn(rows, labels, k=k, metric=metric, blocks=blocks)
    assert score.diagnostics["duplicates"] > 0
    assert score.value == pytest.approx(features_knn.knn_accuracy(rows.numpy(), labels, k, metric), abs=1e-12)
    kept = [(blocks != b).nonzero().squeeze(1) for b in range(3)]
    expected = [features_knn.knn_accuracy(rows.numpy(), labels, k, metric, keep=some) for some in kept]
    assert score.replicates == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_knn_replicates_are_searches_without_the_block(metric):
    rows, labels = blobs(150, 16, 4, seed=3, spread=0.6, dtype=torch.float32)
    blocks = block_ids(labels, n_blocks=3)
    score = knn(rows, labels, metric=metric, blocks=blocks)
    again = [knn(rows[blocks != b], labels[blocks != b], metric=metric).value for b in range(3)]
    assert score.replicates == pytest.approx(again, abs=1e-12)


def test_ped_oracle_gives_the_released_code_s_ratios():
    offsets = np.concatenate([3 * np.eye(8), -3 * np.eye(8)])
    rows = np.concatenate([0.5 * np.eye(8)[c] + offsets for c in range(5)])
    labels = np.repeat(np.arange(5), 16)
    background = np.stack([np.ones(8), -np.ones(8)])
    _, ratios = features_ped_sfda.ped_moves(rows, labels, background)
    assert ratios[1:] == pytest.approx([0.975, 0.951, 0.927, 0.904, 0.882], abs=0.0015)


def test_ped_oracle_keeps_class_shapes_and_its_steps_shrink():
    rows, labels = blobs(90, 6, 3, seed=5, spread=0.3)
    moved, ratios = features_ped_sfda.ped_moves(rows.numpy(), labels.numpy(), rows.numpy())
    assert len(ratios) == 6
    assert ratios[0] == 1.0
    assert all(0.5 < later < earlier for earlier, later in pairwise(ratios))
    for c in range(3):
        own = (labels == c).numpy()
        before = rows.numpy()[own] - rows.numpy()[own].mean(0)
        assert np.abs(moved[own] - moved[own].mean(0) - before).max() < 1e-12
    base = features_sfda.sfda(rows.numpy(), labels.numpy())
    assert features_ped_sfda.ped_sfda(rows.numpy(), labels.numpy(), rows.numpy()) > base


@pytest.mark.parametrize("nsigma", [0.3, 0.6, 2.0])
@pytest.mark.parametrize(("n", "d", "c"), [(120, 10, 4), (60, 40, 3)])
def test_sfda_on_moved_rows_is_ped_with_sfda(n, d, c, nsigma):
    rows, labels = blobs(n, d, c, seed=n + d, spread=0.3)
    g = torch.Generator().manual_seed(0)
    background = 1.3 * torch.randn(70, d, generator=g, dtype=torch.float64) + 0.5
    options = Options(nsigma=nsigma, background=(background.mean(0), background.std(0, unbiased=False)))
    moved = moved_rows(rows, labels, options)
    expected = features_ped_sfda.ped_moves(rows.numpy(), labels.numpy(), background.numpy(), nsigma)[0]
    assert np.abs(moved.numpy() - expected).max() < 1e-9
    published = features_ped_sfda.ped_sfda(rows.numpy(), labels.numpy(), background.numpy(), nsigma)
    assert sfda_published(moved, labels).value == pytest.approx(published, abs=1e-6)
