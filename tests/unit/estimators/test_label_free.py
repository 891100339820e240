"""What labels do not change is found once: the numbers are those of finding it again."""

import math
import statistics

import pytest
import torch

import estimators.view
from estimators import discriminant, evidence_curve
from estimators.blocks import block_ids
from estimators.evidence import Evidence
from estimators.label_free import WHOLE, LabelFree
from estimators.logme import logme
from estimators.moments import ClassMoments
from estimators.panel import evaluate
from estimators.shifted import _ROUNDED_LOG, ShiftedForm, largest_trace
from tests.oracles.moments_oracles import logme_dense

NAMES = ("logme", "h_score", "ped_logme", "frechet", "lda", "knn")


def data(n, dim, n_classes=5, *, apart=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, n_classes, (n,), generator=generator)
    scale = torch.arange(1, dim + 1).pow(-0.5)
    centres = apart * torch.randn(n_classes, dim, generator=generator)
    return (torch.randn(n, dim, generator=generator) + centres[labels]) * scale + 0.5, labels


def scores(rows, labels, names=NAMES, **known):
    other, _ = data(len(rows), rows.shape[1], seed=9)
    reference = ClassMoments.from_features(other, torch.zeros(len(other), dtype=torch.int64))
    found = evaluate(Evidence(labels=labels, features=rows, reference_moments=reference, **known), names)
    assert all(one.score is not None for one in found.values()), found
    return {name: one.score for name, one in found.items()}


@pytest.mark.parametrize(("n", "dim"), [(300, 40), (120, 160), (600, 520)])
def test_relabelled_images_score_as_if_nothing_had_been_known(n, dim):
    rows, labels = data(n, dim)
    changed = labels.clone()
    changed[::9] = (changed[::9] + 1) % 5
    known = LabelFree()
    scores(rows, labels, label_free=known)
    forms, nearest = dict(known.forms), dict(known.neighbours)
    again, afresh = scores(rows, changed, label_free=known), scores(rows, changed)
    for name, score in afresh.items():
        assert again[name].value == pytest.approx(score.value, rel=1e-9), name
        assert again[name].replicates == pytest.approx(score.replicates, rel=1e-9), name
    assert known.neighbours == nearest
    assert set(forms) == (set() if n < dim else {WHOLE, *range(10)})
    assert all(known.forms[block] is form for block, form in forms.items())
    assert known.nbytes > 4 * rows.numel()


@pytest.mark.parametrize(("n", "dim"), [(300, 40), (120, 160), (600, 520)])
def test_images_that_are_added_score_as_if_nothing_had_been_known(n, dim):
    rows, labels = data(n, dim)
    positions = (torch.arange(n) % 50 != 7).nonzero()[:, 0]
    known = LabelFree()
    scores(rows[positions], labels[positions], label_free=known)
    known = known.grown(rows, positions)
    again, afresh = scores(rows, labels, label_free=known), scores(rows, labels)
    for name, score in afresh.items():
        assert again[name].value == pytest.approx(score.value, rel=1e-9), name
        assert again[name].replicates == pytest.approx(score.replicates, rel=1e-6), name


@pytest.mark.parametrize("cells", [1, 2, 4, 7])
def test_a_curve_over_several_cells_is_as_near_as_over_each(cells):
    """Log determinants and quadratic forms, as those of the evidence, against many nodes a cell."""
    values = torch.logspace(-3, 3, 60, dtype=torch.float64)
    weights = torch.rand(3, 60, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def terms(taus):
        tau = torch.tensor(taus, dtype=torch.float64)[:, None]
        explained = (weights[:, None] * values / (values + tau)).sum(2) * torch.tensor([0.2, 1.0, 3.0])[:, None]
        return (400.0 - explained.T).log(), (values / tau).log1p().sum(1)

    found = []
    for nodes in (5, 12):
        best, at = torch.full((3,), -torch.inf, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
        everyone = torch.ones(3, dtype=torch.bool)
        evidence_curve._refine(terms, 2000, -2, -3 + cells, nodes, best, at, within=everyone)
        found.append(best)
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)


def test_other_blocks_are_factored_again():
    rows, labels = data(300, 40)
    known = LabelFree()
    scores(rows, labels, ("logme",), label_free=known)
    other = (block_ids(labels) + (torch.arange(300) % 7 == 0)) % 10
    found = scores(rows, labels, ("logme",), label_free=known, blocks=other)["logme"]
    assert found.replicates == pytest.approx(scores(rows, labels, ("logme",), blocks=other)["logme"].replicates)


@pytest.mark.parametrize("apart", [0.1, 3.0])
def test_a_replicate_in_float32_is_off_by_less_than_a_hundredth_of_their_spread(monkeypatch, apart):
    rows, labels = data(900, 520, apart=apart)
    rough = scores(rows, labels)
    monkeypatch.setattr(estimators.view, "_ROUGH_FROM", 10**9)
    exact = scores(rows, labels)
    for name, score in exact.items():
        spread = statistics.pstdev(score.replicates)
        error = max(abs(a - b) for a, b in zip(rough[name].replicates, score.replicates, strict=True))
        assert error <= 0.01 * spread, name
        assert rough[name].value == score.value, name


def test_a_held_out_analysis_without_a_block_of_a_large_set_is_that_of_the_images_left(monkeypatch):
    rows, labels = data(1300, 40, apart=0.2)
    carried = scores(rows, labels, ("lda", "ped_lda"))
    monkeypatch.setattr(discriminant, "_EXACT_BELOW", 10**9)
    for name, exact in scores(rows, labels, ("lda", "ped_lda")).items():
        spread = statistics.pstdev(exact.replicates)
        assert spread > 1e-4
        assert carried[name].replicates == pytest.approx(exact.replicates, abs=0.03 * spread), name


@pytest.mark.parametrize("apart", [10.0, 1e3])
def test_classes_that_lie_far_apart_keep_their_digits(apart):
    """What is left of a label in the total scatter is then too little to be told from rounding."""
    rows, labels = data(90, 20, 4, apart=apart)
    rows = rows.to(torch.float64)
    expected = logme_dense(rows.numpy(), torch.nn.functional.one_hot(labels).numpy())
    assert logme(rows, labels).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [1, 7, 191, 192, 193, 300, 700])
def test_a_form_solves_what_the_matrix_does(size):
    generator = torch.Generator().manual_seed(size)
    rows = torch.randn(2 * size + 1, size, generator=generator, dtype=torch.float64)
    rows[:, size // 2] = 0.0  # a feature that is never active
    matrix = rows.T @ rows
    columns = torch.randn(size, 3, generator=generator, dtype=torch.float64)
    form = ShiftedForm(matrix)
    rotated = form.rotate(columns)
    forms, logdets = form.quadratics(rotated, [0.3, 5.0])
    for i, shift in enumerate([0.3, 5.0]):
        shifted = matrix + shift * torch.eye(size, dtype=torch.float64)
        solved = torch.linalg.solve(shifted, columns)
        torch.testing.assert_close(form.unrotate(form.solve(rotated, shift)), solved)
        torch.testing.assert_close(forms[i], (columns * solved).sum(0))
        assert float(logdets[i]) == pytest.approx(float(torch.logdet(shifted)))
        assert form.inverse_trace(shift) == pytest.approx(float(torch.linalg.inv(shifted).trace()))
    torch.testing.assert_close(form.unrotate(form.multiply(rotated)), matrix @ columns)
    torch.testing.assert_close(form.eigenvalues(), torch.linalg.eigvalsh(matrix).clamp_min(0), rtol=1e-9, atol=1e-9)
    assert form.squared == pytest.approx(float(matrix.square().sum()))
    assert float(torch.linalg.eigvalsh(matrix)[-1]) <= form.norm * (1 + 1e-12)


@pytest.mark.parametrize(("large", "fine"), [(slice(0, 30), True), (slice(200, 300), False)])
def test_float32_does_beside_large_eigenvalues_and_says_so_where_it_does_not(large, fine):
    """A few large ones go with the first panel, in float64; more than it is wide are rounded beside the small ones."""
    rows = torch.randn(900, 520, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rows[:, large] *= 100
    matrix = rows.T @ rows
    shift = 0.01 * float(matrix.diagonal().median())
    form = ShiftedForm(matrix.to(torch.float32), careful=True)
    expected = float((1 / (torch.linalg.eigvalsh(matrix) + shift)).sum())
    assert form.resolves(shift) == fine
    assert (abs(form.inverse_trace(shift) / expected - 1) < 1e-5) == fine


@pytest.mark.parametrize("rank", [600, 90, 1])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_a_form_of_features_that_depend_on_each_other(rank, dtype, within):
    generator = torch.Generator().manual_seed(rank)
    rows = torch.randn(900, rank, generator=generator, dtype=torch.float64)
    rows = rows @ torch.randn(rank, 650, generator=generator, dtype=torch.float64)
    matrix = rows.T @ rows / 900
    columns = torch.randn(650, 3, generator=generator, dtype=torch.float64)
    form = ShiftedForm(matrix.to(dtype))
    shift = 0.1 * float(matrix.diagonal().mean())
    solved = torch.linalg.solve(matrix + shift * torch.eye(650, dtype=torch.float64), columns)
    forms, _ = form.quadratics(form.rotate(columns), [shift])
    torch.testing.assert_close(forms[0], (columns * solved).sum(0), rtol=within, atol=0)
    largest = float(torch.linalg.eigvalsh(matrix)[-1])
    torch.testing.assert_close(
        form.eigenvalues().to(torch.float64), torch.linalg.eigvalsh(matrix).clamp_min(0), rtol=0, atol=within * largest
    )


@pytest.mark.parametrize("large", [slice(0, 30), slice(200, 300)])
def test_what_log_determinants_say_of_float32_is_what_the_inverse_says(large):
    """Their slope bounds the trace from above, and not by much where the shifts lie far enough apart."""
    rows = torch.randn(900, 520, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    rows[:, large] *= 100
    matrix = rows.T @ rows
    form = ShiftedForm(matrix.to(torch.float32), careful=True)
    columns = form.rotate(torch.ones(520, 1, dtype=torch.float64))
    for shift in (1e-2, 1.0, 1e3):
        exact = float((1 / (torch.linalg.eigvalsh(matrix) + shift)).sum())
        shifts = [1.3 * shift, shift, 2 * shift]
        bound = largest_trace(form, shifts, form.norms(columns, shifts)[2])
        # shifts nearer each other than 1/100 of what rounding moves: each factorisation's own noise is all there is
        known = 0.3 * shift > form.lost / 100
        rounding = _ROUNDED_LOG * 520 / (0.3 * shift) if known else math.inf
        assert exact * 0.999 <= bound <= 1.3 * (exact * 1.01 + 2 * rounding)


def test_features_of_which_nearly_all_are_never_active_have_nothing_to_round():
    rows, labels = data(700, 40)
    padded = torch.cat([rows, torch.zeros(700, 560)], 1)
    found, expected = scores(padded, labels, ("logme", "h_score")), scores(rows, labels, ("logme", "h_score"))
    assert found["logme"].value == pytest.approx(expected["logme"].value, rel=1e-6)
    assert found["logme"].stderr == pytest.approx(expected["logme"].stderr, rel=1e-2)
