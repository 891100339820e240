"""Derivatives in the weights of blocks, against automatic differentiation of the definitions."""

import math

import pytest
import torch

from estimators.blocks import BlockMoments, block_ids
from estimators.case import Case
from estimators.compare import jackknife_stderr
from estimators.gbc import gbc, gbc_value
from estimators.shared import SLOPES, Options
from estimators.transrate import _table

N_BLOCKS = 10


def data(n, dim, n_classes, seed=0):
    torch.manual_seed(seed)
    labels = torch.randint(0, n_classes, (n,))
    spread = torch.rand(n_classes, dim) + 0.2
    features = (0.3 * torch.randn(n_classes, dim))[labels] + torch.randn(n, dim) * spread[labels]
    blocks = block_ids(labels)
    moments = BlockMoments.from_features(features, labels, blocks)
    return features, labels, blocks, Case(moments, features=features, labels=labels, blocks=blocks)


def gradient_in_block_weights(value_of, blocks):
    weights = torch.ones(N_BLOCKS, dtype=torch.float64, requires_grad=True)
    value_of(weights[blocks]).backward()
    return weights.grad


def weighted_gbc(x, labels, weights):
    total = weights.sum()
    unit = (weights @ x.square() / total - (weights @ x / total).square()).mean().detach()
    members = torch.nn.functional.one_hot(labels).double() * weights[:, None]
    counts = members.sum(0)[:, None]
    means = members.T @ x / counts
    variances = (members.T @ x.square() / counts - means.square()).clamp_min(1e-4 * unit)
    a, b = torch.triu_indices(len(counts), len(counts), 1)
    mixed = 0.5 * (variances[a] + variances[b])
    distance = ((means[a] - means[b]).square() / mixed).sum(1) / 8
    distance = distance + 0.5 * (mixed.log() - 0.5 * (variances[a] * variances[b]).log()).sum(1)
    return math.log(len(a)) - torch.logsumexp(-distance, 0)


def mean_rate_of_classes(x, labels, weights):
    total = weights.sum()
    centred = x - weights @ x / total
    scale = 1 / (weights @ centred.square().sum(1))
    rates = []
    for c in labels.unique():
        w, z = weights[labels == c], centred[labels == c]
        matrix = torch.eye(x.shape[1], dtype=torch.float64) + (z.T * w) @ z * scale / (w.sum() * 1e-4)
        rates.append(0.5 * torch.logdet(matrix) * w.sum() / total)
    return torch.stack(rates).sum()


@pytest.mark.parametrize(("n", "dim"), [(300, 40), (300, 500)])
def test_gbc_slopes_are_its_derivative(n, dim):
    features, labels, blocks, case = data(n, dim, 6)
    gbc_value(case.total, Options())
    expected = gradient_in_block_weights(lambda w: weighted_gbc(features.double(), labels, w), blocks)
    torch.testing.assert_close(case.total.memo[SLOPES], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("n", "dim"), [(300, 20), (300, 150)])
def test_transrate_slopes_of_the_classes_are_their_derivative(n, dim, monkeypatch):
    monkeypatch.setattr("estimators.transrate._random_subsets", lambda distances, dim, counts: [torch.arange(n)])
    features, labels, blocks, case = data(n, dim, 4)
    table = _table(case.total, "corrected")
    x = features.double()
    everything = torch.zeros_like(labels)

    def value(weights):
        return mean_rate_of_classes(x, everything, weights) - mean_rate_of_classes(x, labels, weights)

    expected = gradient_in_block_weights(value, blocks)
    torch.testing.assert_close(table[-1].slopes, expected, rtol=1e-5, atol=1e-5)


def test_the_stated_error_is_a_weighted_geometric_mean_of_deletion_and_derivative():
    features, labels, blocks, case = data(400, 30, 8)
    score = gbc(features, labels, blocks=blocks)
    gbc_value(case.total, Options())
    slopes = case.total.memo[SLOPES].tolist()
    deletions = [gbc_value(case.without(block), Options())[0] for block in range(N_BLOCKS)]
    expected = jackknife_stderr(slopes) ** 0.4 * jackknife_stderr(deletions) ** 0.6
    assert score.stderr == pytest.approx(expected, rel=1e-9)
    assert score.diagnostics["jackknife_factor"] < 1
