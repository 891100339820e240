"""The noise bar: on pure noise, estimators that compare models of different width score the same at any width."""

import math

import pytest
import torch

from estimators.catalog import SPECS
from estimators.evidence import Evidence
from estimators.moments import ClassMoments
from estimators.panel import SHARED, evaluate

WIDTHS, N, C, SEEDS = (64, 256, 1024, 4096), 200, 10, 20


@pytest.fixture(scope="module")
def table():
    names = [name for name in SHARED if name != "sfda"]
    values = {(name, width): [] for name in names for width in WIDTHS}
    for width in WIDTHS:
        for seed in range(SEEDS):
            generator = torch.Generator().manual_seed(seed)
            rows = torch.randn(N, width, generator=generator)
            labels = torch.arange(N)[torch.randperm(N, generator=generator)] % C
            other = torch.randn(N, width, generator=generator)
            reference = ClassMoments.from_features(other, torch.zeros(N, dtype=torch.int64))
            evidence = Evidence(labels=labels, features=rows, reference_moments=reference)
            for name, found in evaluate(evidence, names, standard_errors=False).items():
                values[name, width].append(found.score.value)
    return values


def drift(table, name):
    columns = [torch.tensor(table[name, width], dtype=torch.float64) for width in WIDTHS]
    pairs = [(a, b) for i, a in enumerate(columns) for b in columns[:i]]
    return max(
        float((a.mean() - b.mean()).abs()) / max(math.sqrt(float(a.var() + b.var()) / SEEDS), 1e-12) for a, b in pairs
    )


@pytest.mark.parametrize("name", ["logme", "lda", "h_score"])
def test_no_drift_between_widths(table, name):
    assert SPECS[name].comparable_across_width
    assert drift(table, name) <= 2


def test_transrate_is_zero_at_every_width(table):
    # its standard errors differ forty-fold between widths, so its drift is set against three of them
    assert SPECS["transrate"].comparable_across_width
    assert drift(table, "transrate") <= 3
    assert all(abs(float(torch.tensor(table["transrate", width]).mean())) < 0.01 for width in WIDTHS)


@pytest.mark.parametrize("name", ["gbc", "ped_gbc", "ped_logme", "ped_lda", "frechet"])
def test_those_that_drift_are_not_compared_across_widths(table, name):
    assert not SPECS[name].comparable_across_width
    assert drift(table, name) > 10
