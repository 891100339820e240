"""The oracles are right where a figure is published, and `estimators` agrees with the oracles."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from estimators.gbc import gbc
from estimators.h_score import h_score
from estimators.logme import logme
from estimators.moments import ClassMoments
from estimators.ped import moved_rows
from estimators.ped_lda import ped_lda
from estimators.ped_logme import ped_logme
from estimators.shared import Options
from estimators.transrate import transrate
from tests.oracles import moments_oracles as oracles
from tests.oracles.features_sfda import sfda as sfda_oracle

ROOT = Path(__file__).parents[3]
TRUTH = ROOT / "../shared/data/truth"
SHAPES = [(120, 20, 4), (60, 100, 3), (90, 90, 5), (200, 33, 10)]


def data(n, dim, n_classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % n_classes
    rows = torch.randn(n, dim, generator=generator)
    return rows + 0.4 * torch.randn(n_classes, dim, generator=generator)[labels] + 1.0, labels


def office(name):
    path = TRUTH / f"office31_{name}.npz"
    if not path.exists():
        pytest.skip("the Office-31 features lie beside the repository, and are not there")
    arrays = np.load(path)
    features = next(arrays[k] for k in arrays.files if arrays[k].ndim == 2 and arrays[k].shape[1] == 512)
    labels = next(arrays[k] for k in arrays.files if arrays[k].ndim == 1)
    return torch.from_numpy(features), torch.unique(torch.from_numpy(labels.astype(np.int64)), return_inverse=True)[1]


def one_hot(labels):
    return torch.nn.functional.one_hot(labels).numpy()


def test_oracles_reproduce_published_figures_on_iris():
    iris = load_iris()
    rows = iris.data.astype(np.float32)
    # thuml/LogME fixed point and TransformerRanker's tests, on float32 iris
    assert oracles.logme_published(rows, iris.target) == pytest.approx(-0.1600602565, abs=2e-9)
    assert oracles.h_score(rows, iris.target, True) == pytest.approx(1.177842480406727, abs=1e-9)
    # the figure is rounded from another precision of the same rows: six digits agree
    assert oracles.h_score(rows, iris.target, False) == pytest.approx(1.1918995, abs=1e-6)


def test_the_dense_oracle_is_the_papers_evidence_at_its_maximum():
    rows, labels = data(40, 8, 2)
    x, t = rows.double().numpy(), one_hot(labels)[:, :1].astype(float)
    best = max(
        oracles.log_evidence(x, t[:, 0], math.exp(a), math.exp(b))
        for a in np.linspace(-4, 8, 121)
        for b in np.linspace(-2, 5, 71)
    )
    dense = oracles.logme_dense(x, t)
    assert best <= dense + 1e-12
    assert dense == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_logme_equals_the_dense_evidence_at_its_maximum(shape, scale):
    rows, labels = data(*shape)
    expected = oracles.logme_dense((rows * scale).numpy(), one_hot(labels))
    assert logme(rows * scale, labels).value == pytest.approx(expected, abs=1e-6)


def test_logme_of_targets_equals_the_dense_evidence():
    for n, dim in ((80, 12), (40, 90)):
        rows, _ = data(n, dim, 3)
        targets = torch.stack([rows[:, 0] + 0.5 * torch.randn(n), torch.randn(n)], 1).double()
        assert logme(rows, targets).value == pytest.approx(oracles.logme_dense(rows, targets), abs=1e-6)
        expected = oracles.logme_dense(rows, targets[:, :1])
        assert logme(rows, targets[:, 0]).value == pytest.approx(expected, abs=1e-6)


def test_indicators_as_multilabel_are_the_classes():
    rows, labels = data(90, 20, 3)
    indicators = torch.nn.functional.one_hot(labels)
    assert logme(rows, indicators).value == pytest.approx(logme(rows, labels).value, abs=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_published_variants_equal_the_definitions(shape):
    rows, labels = data(*shape)
    y = labels.numpy()
    assert logme(rows, labels, variant="published").value == pytest.approx(oracles.logme_published(rows, y), abs=1e-6)
    assert h_score(rows, labels, variant="published").value == pytest.approx(oracles.h_score(rows, y, True), abs=1e-9)
    expected = oracles.transrate(rows, y)
    assert transrate(rows, labels, variant="published").value == pytest.approx(expected, rel=1e-9)
    expected = oracles.transrate(rows, y, published=False)
    assert transrate(rows, labels, variant="trace").value == pytest.approx(expected, rel=1e-9)
    if len(y) > rows.shape[1] + int(y.max()) + 1:
        expected = oracles.h_score(rows, y, False)
        assert h_score(rows, labels, variant="plain").value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("nsigma", [0.3, 0.6, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_ped_in_moments_equals_ped_on_rows(shape, nsigma):
    rows, labels = data(*shape)
    background = (torch.full((shape[1],), 0.7, dtype=torch.float64), torch.linspace(0.5, 2, shape[1]).double())
    y = labels.numpy()
    moved = oracles.ped_rows(rows, y, background[0].numpy(), background[1].numpy(), nsigma)
    ours = moved_rows(rows, labels, Options(nsigma=nsigma, background=background))
    np.testing.assert_allclose(ours.numpy(), moved, atol=1e-9)
    if nsigma > 0.3:  # at 0.3 some of these classes do not overlap, and nothing may move
        assert float(np.abs(moved - rows.numpy()).max()) > 1e-3
    exact = ped_logme(rows, labels, background=background, nsigma=nsigma).value
    assert exact == pytest.approx(oracles.logme_dense(moved, one_hot(labels)), abs=1e-6)
    published = ped_logme(rows, labels, background=background, nsigma=nsigma, variant="published").value
    assert published == pytest.approx(oracles.logme_published(moved, y), abs=1e-6)
    published = ped_lda(rows, labels, background=background, nsigma=nsigma, variant="published").value
    assert published == pytest.approx(sfda_oracle(moved, y), abs=1e-6)


def test_gbc_equals_its_definition():
    rows, labels = data(60, 15, 4)
    floor = 1e-4 * float(ClassMoments.from_features(rows, labels).std.square().mean())
    assert gbc(rows, labels).value == pytest.approx(oracles.gbc(rows, labels.numpy(), floor), rel=1e-9)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["dslr", "webcam"])
def test_parity_on_office31(name):
    rows, labels = office(name)
    y = labels.numpy()
    published = logme(rows, labels, variant="published").value
    assert published == pytest.approx(oracles.logme_published(rows, y), abs=1e-6)
    exact = logme(rows, labels).value
    assert exact == pytest.approx(oracles.logme_dense(rows, one_hot(labels)), abs=1e-6)
    if name == "webcam":
        assert exact == pytest.approx(0.54, abs=0.005)  # the figure published with these features
        assert published > 5  # what the missing term adds at N < D
    assert h_score(rows, labels, variant="published").value == pytest.approx(oracles.h_score(rows, y, True), abs=1e-9)
    expected = oracles.transrate(rows, y)
    assert transrate(rows, labels, variant="published").value == pytest.approx(expected, rel=1e-9)
    background = (rows.double().mean(0), rows.double().std(0, correction=0))
    moved = oracles.ped_rows(rows, y, background[0].numpy(), background[1].numpy(), 0.6)
    ours = ped_logme(rows, labels, background=background, variant="published").value
    assert ours == pytest.approx(oracles.logme_published(moved, y), abs=1e-6)
    ours = ped_lda(rows, labels, background=background, variant="published").value
    assert ours == pytest.approx(sfda_oracle(moved, y), abs=1e-6)
