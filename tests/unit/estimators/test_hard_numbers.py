"""Numbers at the edges of float64: large offsets, columns and rows, blocks without which nothing is defined."""

import mpmath
import numpy as np
import pytest
import torch

from estimators.blocks import block_ids
from estimators.catalog import SPECS
from estimators.errors import Degenerate, InvalidInput
from estimators.evidence import Evidence
from estimators.gbc import gbc
from estimators.h_score import h_score
from estimators.lda import lda
from estimators.logme import logme
from estimators.moments import ClassMoments
from estimators.panel import SHARED, evaluate
from estimators.ped import moved_rows
from estimators.ped_gbc import ped_gbc
from estimators.sfda import sfda
from estimators.shared import Options
from estimators.transrate import transrate

ROWS_TWICE = ("lda", "ped_lda", "sfda", "transrate")


def data(n, dim, n_classes=2, seed=3):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    return rng.normal(size=(n, dim)) + 1.5 * rng.normal(size=(n_classes, dim))[labels], labels


def dense(rows, target):
    """Largest log evidence over N in 40 digits, by scan and golden section."""
    with mpmath.workdps(40):
        n, dim = rows.shape
        x, t = mpmath.matrix(rows.tolist()), mpmath.matrix(target.tolist())
        values, vectors = mpmath.eigsy(x * x.T if n <= dim else x.T * x)
        along, norm = vectors.T * (t if n <= dim else x.T * t), sum(v * v for v in t)

        def evidence(log_tau):
            tau = mpmath.e**log_tau
            parts = [along[i] ** 2 / (v + tau) for i, v in enumerate(values)]
            q = tau * sum(parts) if n <= dim else norm - sum(parts)
            logdet = sum(mpmath.log(1 + v / tau) for v in values)
            return -(mpmath.log(2 * mpmath.pi) + 1 + mpmath.log(q / n) + logdet / n) / 2

        grid = [mpmath.mpf(k) for k in range(-45, 60)]
        best = max(range(1, len(grid) - 1), key=lambda k: evidence(grid[k]))
        low, high, golden = grid[best - 1], grid[best + 1], (mpmath.sqrt(5) - 1) / 2
        for _ in range(45):
            left, right = high - golden * (high - low), low + golden * (high - low)
            low, high = (low, right) if evidence(left) > evidence(right) else (left, high)
        return float(evidence((low + high) / 2))


def of_classes(rows, labels):
    return np.mean([dense(rows, (labels == c).astype(float)) for c in np.unique(labels)])


def scaled(rows, *, row=None, column=None, by=1.0):
    changed = rows.copy()
    changed[row if row is not None else slice(None), column if column is not None else slice(None)] *= by
    return changed


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        ((24, 5), lambda x: scaled(x, column=0, by=1e4)),
        ((24, 5), lambda x: scaled(x, column=0, by=1e6)),
        ((24, 5), lambda x: scaled(x, row=0, by=1e4)),
        ((24, 5), lambda x: x + 1e5),
        ((18, 30), lambda x: x + 100.0),
        ((18, 30), lambda x: x + 1e4),
        ((18, 30), lambda x: x + np.eye(1, 30) * 1e3),
        ((18, 30), lambda x: scaled(x, column=0, by=1e4)),
    ],
)
def test_logme_finds_its_maximum_far_from_the_origin_and_beside_large_columns(shape, change):
    rows, labels = data(*shape)
    rows = change(rows)
    found = logme(torch.from_numpy(rows), torch.from_numpy(labels))
    assert found.value == pytest.approx(of_classes(rows, labels), abs=1e-6)


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4])
def test_logme_of_a_target_that_is_nearly_linear(noise):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 5))
    target = rows @ np.arange(1, 6) + noise * rng.normal(size=40)
    assert logme(torch.from_numpy(rows), torch.from_numpy(target)).value == pytest.approx(dense(rows, target), abs=1e-6)


def test_logme_of_a_target_that_is_linear_to_the_last_digits_is_not_made_up():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 5))
    for noise in (1e-5, 1e-6, 0.0):
        with pytest.raises(Degenerate, match=r"exactly|last digits"):
            logme(torch.from_numpy(rows), torch.from_numpy(rows @ np.arange(1, 6) + noise * rng.normal(size=40)))


@pytest.mark.parametrize("n", [12, 15, 16])
def test_blocks_may_leave_numbers_out(n):
    rows, labels = (torch.from_numpy(a) for a in data(n, 4, 3))
    ids = block_ids(labels)
    assert len(torch.unique(ids)) < 10  # a number that no image has
    found = evaluate(Evidence(labels=labels, features=rows), SHARED)
    apart = evaluate(Evidence(labels=labels, features=rows, blocks=3 * ids + 1), SHARED)
    for name in ("logme", "lda", "transrate"):
        assert found[name].score is not None, name
        assert found[name].score.stderr is not None, name
        assert apart[name].score == found[name].score


def test_where_a_block_takes_a_class_away_the_value_stands_without_an_error():
    rows, _ = data(60, 6)
    labels = (torch.arange(60) == 7).long()
    found = evaluate(Evidence(labels=labels, features=torch.from_numpy(rows)), ("logme", "h_score", "gbc", "lda"))
    alone = evaluate(Evidence(labels=labels, features=torch.from_numpy(rows)), found, standard_errors=False)
    for name, evaluation in found.items():
        assert evaluation.score.value == pytest.approx(alone[name].score.value, rel=1e-12)
        assert evaluation.score.stderr is None
        assert "one class only" in evaluation.score.diagnostics["no_error"]


def test_a_rare_label_in_one_block_costs_the_error_alone():
    rows, _ = data(60, 12)
    labels = torch.from_numpy(np.stack([rows[:, 0] > 0, np.arange(60) == 5], 1).astype(float))
    found = logme(torch.from_numpy(rows), labels, blocks=block_ids(labels))
    assert found.value == logme(torch.from_numpy(rows), labels).value
    assert found.stderr is None
    assert "without variation" in found.diagnostics["no_error"]


@pytest.mark.parametrize(
    "make", [lambda x: np.ones_like(x) + np.eye(*x.shape, 3), lambda x: 1e155 * x, lambda x: 1e-160 * x]
)
def test_no_estimator_takes_others_along(make):
    rows, labels = data(40, 5)
    found = evaluate(Evidence(labels=torch.from_numpy(labels), features=torch.from_numpy(make(rows))), SPECS)
    assert all(e.score is not None or e.degenerate or e.missing for e in found.values())


def test_features_beyond_the_squares_of_float64_are_refused_by_all():
    rows, labels = (torch.from_numpy(a) for a in data(40, 5))
    for scale, said in ((1e155, "too large to square"), (1e-160, "too small to square")):
        found = evaluate(
            Evidence(labels=labels, features=scale * rows), ("logme", "lda", "knn", "linear_probe", "nleep")
        )
        assert all(said in e.degenerate for e in found.values())


def test_h_score_of_one_dimension_has_nothing_to_shrink():
    rows, labels = data(60, 1, 3)
    means = np.array([rows[labels == c].mean() for c in labels])
    found = h_score(torch.from_numpy(rows), torch.from_numpy(labels), variant="published")
    assert found.value == pytest.approx(means.var(ddof=1) / rows.var(), rel=1e-12)


def test_plain_h_score_passes_over_what_does_not_vary():
    rows, labels = data(84, 6, 3)
    rows[:, 0] = 7
    rows[:, 5] = rows[:, 1] - 2 * rows[:, 2]
    means = np.stack([rows[labels == c].mean(0) for c in labels])
    expected = np.trace(np.linalg.pinv(np.cov(rows.T, bias=True)) @ np.cov(means.T, bias=True))
    found = h_score(torch.from_numpy(rows), torch.from_numpy(labels), variant="plain")
    assert found.value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e8])
def test_transrate_as_published_at_large_scales(scale):
    rows, labels = data(30, 50, 3)
    rows = scale * rows
    centred = rows - rows.mean(0)

    def rate(z):
        return 0.5 * np.log1p(np.linalg.svd(z, compute_uv=False) ** 2 / (len(z) * 1e-4)).sum()

    expected = rate(centred) - np.mean([rate(centred[labels == c]) for c in range(3)])
    found = transrate(torch.from_numpy(rows), torch.from_numpy(labels), variant="published")
    assert found.value == pytest.approx(expected, rel=1e-9)


def test_ped_with_gbc_is_gbc_of_the_moved_rows_where_a_variance_is_floored():
    rows, labels = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    rows[labels == 0, 0] = 0.5
    rows, labels = torch.from_numpy(rows), torch.from_numpy(labels)
    moved = moved_rows(rows, labels, Options())
    assert not torch.equal(moved, rows)
    assert ped_gbc(rows, labels).value == pytest.approx(gbc(moved, labels).value, rel=1e-9)


@pytest.mark.parametrize("estimator", [lda, sfda])
def test_an_offset_leaves_held_out_posteriors(estimator):
    rows, labels = data(60, 7, 3)
    far = rows + 1e7
    found = estimator(torch.from_numpy(far), torch.from_numpy(labels)).value
    assert found == pytest.approx(
        estimator(torch.from_numpy(far - far.mean(0)), torch.from_numpy(labels)).value, abs=1e-9
    )


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("sums", lambda a: a[:1]),
        ("sums", lambda a: a * np.nan),
        ("counts", lambda a: a * 0),
        ("counts", lambda a: a.astype(float)),
        ("labels", lambda a: a[::-1]),
        ("squares", lambda a: -a),
        ("second", lambda a: a + np.triu(np.ones_like(a))),
        ("second", lambda a: np.full_like(a, np.inf)),
        ("quartic", lambda a: np.full(3, float(a))),
        ("shift", lambda a: a.astype(str)),
    ],
)
def test_arrays_that_are_not_of_moments_are_refused(name, wrong):
    rows, labels = (torch.from_numpy(a) for a in data(40, 6))
    arrays = ClassMoments.from_features(rows, labels).to_arrays()
    with pytest.raises(InvalidInput, match=name):
        ClassMoments.from_arrays(arrays | {name: wrong(arrays[name])})


@pytest.mark.parametrize("wrong", [lambda a: a[:5], lambda a: a + 9, lambda a: a.astype(float), lambda a: a * 0])
def test_rows_of_moments_have_their_classes(wrong):
    rows, labels = (torch.from_numpy(a) for a in data(20, 30))
    arrays = ClassMoments.from_features(rows, labels).to_arrays()
    assert ClassMoments.from_arrays(arrays).n == 20
    with pytest.raises(InvalidInput, match="row_labels"):
        ClassMoments.from_arrays(arrays | {"row_labels": wrong(arrays["row_labels"])})


def test_labels_of_any_integers_and_features_that_carry_gradients():
    rows, labels = (torch.from_numpy(a) for a in data(40, 6))
    expected = logme(rows, labels).value
    assert logme(rows.clone().requires_grad_(), labels).value == expected
    assert logme(rows, labels.to(torch.uint16)).value == expected
