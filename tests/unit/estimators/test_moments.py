"""Class moments: sums that add up, whatever the batches, the order and the form they are kept in."""

import numpy as np
import pytest
import torch

from estimators.blocks import BlockMoments, block_ids
from estimators.catalog import Direction
from estimators.compare import jackknife_stderr, prob_better, tie_groups
from estimators.errors import InvalidInput
from estimators.evidence import Evidence
from estimators.moments import ClassMoments, MomentAccumulator
from estimators.score import Score


def data(n, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator) * 3 + 5, torch.randint(0, 4, (n,), generator=generator) * 5 - 3


def same(a, b, tolerance=1e-9):
    b = b.about(a.shift)
    assert a.labels == b.labels
    assert a.counts.tolist() == b.counts.tolist()
    for name in ("sums", "squares", "cubic"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=tolerance, atol=1e-7)
    assert a.quartic == pytest.approx(b.quartic, rel=tolerance)
    torch.testing.assert_close(a.within_scatter(), b.within_scatter(), rtol=tolerance, atol=1e-7)
    torch.testing.assert_close(a.total_scatter(), b.total_scatter(), rtol=tolerance, atol=1e-7)


@pytest.mark.parametrize("shape", [(200, 15), (40, 60)])
def test_definitions(shape):
    rows, labels = data(*shape)
    moments = ClassMoments.from_features(rows, labels)
    x = rows.double()
    centred = x - x.mean(0)
    torch.testing.assert_close(moments.total_scatter(), centred.T @ centred)
    within = sum(
        (x[labels == c] - x[labels == c].mean(0)).T @ (x[labels == c] - x[labels == c].mean(0)) for c in moments.labels
    )
    torch.testing.assert_close(moments.within_scatter(), within)
    torch.testing.assert_close(moments.variances[1], x[labels == moments.labels[1]].var(0, correction=0))
    about_mean = moments.about(moments.mean)
    assert about_mean.quartic == pytest.approx(float(centred.square().sum(1).square().sum()), rel=1e-10)
    torch.testing.assert_close(about_mean.cubic, centred.square().sum(1) @ centred, rtol=1e-8, atol=1e-6)
    torch.testing.assert_close(moments.std, x.std(0, correction=0))
    assert (moments.rows is not None) == (shape[0] < shape[1])


@pytest.mark.parametrize("shape", [(200, 15), (40, 60), (90, 60)])
@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_batches_do_not_matter(shape, size):
    rows, labels = data(*shape)
    accumulator = MomentAccumulator()
    for start in range(0, len(rows), size):
        accumulator.add(rows[start : start + size], labels[start : start + size])
    same(ClassMoments.from_features(rows, labels), accumulator.moments())


@pytest.mark.parametrize("shape", [(200, 15), (40, 60), (90, 60)])
def test_merge_subtract_and_round_trip(shape):
    rows, labels = data(*shape)
    whole = ClassMoments.from_features(rows, labels)
    left, right = ClassMoments.from_features(rows[:25], labels[:25]), ClassMoments.from_features(rows[25:], labels[25:])
    same(whole, left + right)
    same(right, whole - left)
    same(whole, ClassMoments.from_arrays(whole.to_arrays()))
    renamed = whole.relabelled({-3: 7, 2: 7})
    assert renamed.labels == (7, 12)
    merged = torch.where(labels < 7, 7, labels)
    same(ClassMoments.from_features(rows, merged), renamed)


def test_a_class_can_leave_with_what_is_taken_away():
    rows, labels = data(60, 5)
    labels[0] = 1000
    whole = ClassMoments.from_features(rows, labels)
    assert 1000 not in (whole - ClassMoments.from_features(rows[:1], labels[:1])).labels
    with pytest.raises(InvalidInput, match="nothing would be left"):
        whole - whole
    with pytest.raises(InvalidInput, match="absent"):
        whole - ClassMoments.from_features(rows[:1], torch.tensor([77]))


def test_memory_form_follows_the_smaller_side():
    rows, labels = data(40, 60)
    assert ClassMoments.from_features(rows, labels).rows.dtype == torch.float32
    assert ClassMoments.from_features(rows.half(), labels).rows.dtype == torch.float32
    twice = ClassMoments.from_features(torch.cat([rows, rows]), labels.repeat(2))
    assert twice.rows is None
    assert twice.second.shape == (60, 60)


def test_bad_batches_are_refused():
    rows, labels = data(20, 4)
    for bad in (rows.clone().fill_(float("nan")), rows.clone().fill_(float("inf"))):
        with pytest.raises(InvalidInput, match="NaN or infinity"):
            ClassMoments.from_features(bad, labels)
    with pytest.raises(InvalidInput, match="integers"):
        ClassMoments.from_features(rows, labels.float())
    with pytest.raises(InvalidInput, match=r"\[N, D\]"):
        ClassMoments.from_features(rows[:5], labels)
    with pytest.raises(InvalidInput, match="different widths"):
        ClassMoments.from_features(rows, labels) + ClassMoments.from_features(rows[:, :3], labels)


def test_blocks_are_even_deterministic_and_blind_to_classes():
    _, labels = data(203, 3)
    ids = block_ids(labels)
    sizes = torch.bincount(ids)
    assert int(sizes.max() - sizes.min()) <= 1
    assert torch.equal(ids, block_ids(labels))
    assert torch.equal(ids, block_ids(labels.flip(0)))
    assert torch.equal(ids, block_ids(torch.randn(203)))
    many = torch.arange(20_000).sort().values % 4  # the counts of a class vary from block to block as in a random draw
    counts = torch.bincount(block_ids(many, n_blocks=1000)[many == 0], minlength=1000).double()
    assert float(counts.var()) == pytest.approx(20 * 0.25 * 0.75, rel=0.2)
    with pytest.raises(InvalidInput):
        block_ids(labels, n_blocks=1)


@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_no_block_takes_a_small_class_away(size):
    labels = torch.arange(60 * size) % 60
    held = torch.bincount(labels * 10 + block_ids(labels), minlength=600).reshape(60, 10)
    assert int(held.max()) <= max(1, size // 3)


@pytest.mark.parametrize("shape", [(200, 15), (40, 60), (90, 60)])
def test_without_a_block(shape):
    rows, labels = data(*shape)
    ids = block_ids(labels)
    moments = BlockMoments.from_features(rows, labels, ids)
    same(ClassMoments.from_features(rows, labels), moments.total)
    kept = ids != 4
    same(ClassMoments.from_features(rows[kept], labels[kept]), moments.without(4))


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=10)
    replicates = [(x.sum() - v) / 9 for v in x]
    assert jackknife_stderr(replicates) == pytest.approx(x.std(ddof=1) / np.sqrt(10))


@pytest.mark.parametrize("value", [3 / 450, 6 / 450, 7 / 450])
def test_values_that_no_block_moves_have_no_error(value):
    assert jackknife_stderr([value] * 10) == jackknife_stderr([value] * 9) == 0


def score(value, replicates):
    return Score(value, jackknife_stderr(replicates), {}, tuple(replicates))


def test_comparison_is_paired_and_minds_the_direction():
    shared = [0.0, 1.0, -1.0, 0.5, -0.5]
    a, b = score(1.0, [1 + s for s in shared]), score(0.9, [0.9 + s + 0.001 * s for s in shared])
    assert prob_better(a, b) > 0.99  # the common part of the errors cancels
    assert prob_better(a, b, direction=Direction.LOWER_IS_BETTER) == pytest.approx(1 - prob_better(a, b))
    unpaired = prob_better(Score(1.0, a.stderr), Score(0.9, b.stderr))
    assert 0.5 < unpaired < 0.6
    assert prob_better(a, a) == 0.5
    with pytest.raises(InvalidInput):
        prob_better(Score(1.0), Score(0.5))


def test_tie_groups():
    ranked = [Score(1.0, 0.1), Score(0.95, 0.1), Score(0.5, 0.1), Score(0.45, 0.1), Score(-3.0, 0.1)]
    assert tie_groups(ranked, direction=Direction.HIGHER_IS_BETTER) == [0, 0, 1, 1, 2]
    with pytest.raises(InvalidInput, match="order"):
        tie_groups(ranked, direction=Direction.LOWER_IS_BETTER)
    assert tie_groups([Score(1.0), Score(1.0), Score(0.9)], direction=Direction.HIGHER_IS_BETTER) == [0, 0, 1]


def test_evidence_checks_its_shapes():
    rows, labels = data(20, 4)
    with pytest.raises(InvalidInput, match="features"):
        Evidence(labels=labels, features=rows[:5])
    with pytest.raises(InvalidInput, match="blocks"):
        Evidence(labels=labels, features=rows, blocks=torch.zeros(3, dtype=torch.int64))


@pytest.mark.gpu
def test_moments_and_panel_on_cuda_equal_those_on_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from estimators.panel import SHARED, evaluate

    for shape in ((300, 40), (60, 100), (900, 520)):
        rows, labels = data(*shape)
        reference = ClassMoments.from_features(rows.flip(0) * 1.1, labels)
        same(ClassMoments.from_features(rows, labels), ClassMoments.from_features(rows.cuda(), labels.cuda()).to("cpu"))
        cpu = evaluate(Evidence(labels=labels, features=rows, reference_moments=reference), SHARED)
        gpu = evaluate(
            Evidence(labels=labels.cuda(), features=rows.cuda(), reference_moments=reference.to("cuda")), SHARED
        )
        for name, found in cpu.items():
            assert gpu[name].score.value == pytest.approx(found.score.value, rel=1e-7, abs=1e-7), name
            # on a CPU, replicates of wide features are computed in float32
            assert gpu[name].score.stderr == pytest.approx(found.score.stderr, rel=1e-3, abs=1e-7), name
