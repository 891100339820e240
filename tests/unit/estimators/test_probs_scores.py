"""LEEP, NCE and zero-shot accuracy: parity, goldens, and input that is not what they take."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from estimators.blocks import block_ids
from estimators.errors import Degenerate, InvalidInput
from estimators.leep import leep
from estimators.nce import nce
from estimators.zero_shot import zero_shot
from tests.oracles import features_leep

TRUTH = Path(__file__).parents[3] / "../shared/data/truth"
PAIRS = [(leep, features_leep.leep), (nce, features_leep.nce)]


def random_probs(n, n_source, c, seed):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, c, (n,), generator=g)
    return torch.softmax(2 * torch.randn(n, n_source, generator=g, dtype=torch.float64), 1), labels


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "n_source", "c"), [(30, 4, 2), (50, 100, 7), (20, 7, 15)])
@pytest.mark.parametrize(("ours", "oracle"), PAIRS)
def test_value_equals_the_transcription(ours, oracle, n, n_source, c, seed):
    probs, labels = random_probs(n, n_source, c, seed)
    expected = oracle(probs.tolist(), labels.tolist())
    assert ours(probs, labels).value == pytest.approx(expected, abs=1e-9)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "published"), [("dslr", -0.950), ("webcam", -1.804)])
def test_office31_gives_the_published_leep(name, published):
    path = TRUTH / f"office31_{name}.npz"
    if not path.exists():
        pytest.skip("no shared data beside the project")
    data = np.load(path)
    probs, labels = torch.from_numpy(data["source_probs"]), torch.from_numpy(data["labels"])
    score = leep(probs, labels)
    assert score.value == pytest.approx(published, abs=5e-4)
    for ours, oracle in PAIRS:
        assert ours(probs, labels).value == pytest.approx(oracle(probs.tolist(), labels.tolist()), abs=1e-9)


@pytest.mark.parametrize(("ours", "oracle"), PAIRS)
def test_empty_source_classes_are_dropped(ours, oracle):
    probs, labels = random_probs(40, 5, 3, 0)
    wide = torch.zeros(40, 9, dtype=torch.float64)
    wide[:, [0, 2, 3, 5, 8]] = probs
    assert ours(wide, labels).value == pytest.approx(oracle(probs.tolist(), labels.tolist()), abs=1e-12)
    assert leep(wide, labels).diagnostics["empty_source_classes"] == 4


@pytest.mark.parametrize("ours", [leep, nce])
def test_gaps_names_and_order_of_labels_rows_and_source_classes_do_not_matter(ours):
    probs, labels = random_probs(60, 8, 4, 1)
    blocks = block_ids(labels)
    base = ours(probs, labels, blocks=blocks)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    renamed = torch.tensor([1_000_003, -5, 77, 4])[labels]
    again = ours(probs[order][:, torch.randperm(8)], renamed[order], blocks=blocks[order])
    assert again.value == pytest.approx(base.value, rel=1e-12)
    assert again.stderr == pytest.approx(base.stderr, rel=1e-9)
    assert again.replicates == pytest.approx(base.replicates, rel=1e-12)


@pytest.mark.parametrize("ours", [leep, nce])
def test_replicates_are_the_value_without_a_block(ours):
    probs, labels = random_probs(60, 8, 4, 3)
    blocks = block_ids(labels)
    score = ours(probs, labels, blocks=blocks)
    assert score.replicates == pytest.approx(
        [ours(probs[blocks != b], labels[blocks != b]).value for b in range(10)], abs=1e-12
    )
    assert ours(probs, labels).stderr is None
    assert ours(probs, labels).replicates == ()


@pytest.mark.parametrize("ours", [leep, nce])
def test_perfect_source_classes_leave_nothing_unknown_and_one_leaves_everything(ours):
    labels = torch.arange(30) % 3
    perfect = torch.nn.functional.one_hot(labels, 3).double()
    assert ours(perfect, labels).value == pytest.approx(0, abs=1e-12)
    assert ours(torch.ones(30, 1), labels).value == pytest.approx(-math.log(3), abs=1e-12)


@pytest.mark.parametrize("ours", [leep, nce])
@pytest.mark.parametrize(
    "broken",
    [
        torch.randn(20, 5),
        torch.rand(20, 5) + 1,
        torch.full((20, 5), float("nan")),
        torch.full((20, 5), 0.2).masked_fill(torch.eye(20, 5) > 0, float("inf")),
        torch.ones(20, 5, dtype=torch.int64),
        torch.ones(20),
        torch.full((19, 5), 0.2),
    ],
)
def test_what_is_no_probability_is_invalid(ours, broken):
    with pytest.raises(InvalidInput):
        ours(broken, torch.arange(20) % 2)


@pytest.mark.parametrize("ours", [leep, nce])
@pytest.mark.parametrize("labels", [torch.rand(20), torch.ones(20, 2, dtype=torch.int64)])
def test_other_tasks_are_invalid(ours, labels):
    with pytest.raises(InvalidInput, match="classification"):
        ours(torch.full((20, 5), 0.2), labels)


@pytest.mark.parametrize("ours", [leep, nce])
def test_one_class_is_degenerate(ours):
    with pytest.raises(Degenerate, match="one class"):
        ours(torch.full((20, 5), 0.2), torch.full((20,), 3))


def test_the_error_covers_the_draw_of_class_shares():
    g = torch.Generator().manual_seed(0)
    probs = torch.ones(200, 1)  # the value is minus the entropy of the class shares, and nothing else
    values, variances = [], []
    for _ in range(300):
        labels = (torch.rand(200, generator=g) < 0.2).long()
        score = leep(probs, labels, blocks=block_ids(labels))
        values.append(score.value)
        variances.append(score.stderr**2)
    assert np.mean(variances) ** 0.5 == pytest.approx(np.std(values), rel=0.15)


def prototypes_and_images(n, c, d, seed):
    g = torch.Generator().manual_seed(seed)
    prototypes = torch.randn(c, d, generator=g)
    labels = torch.randint(0, c, (n,), generator=g)
    return prototypes[labels] + 1.5 * torch.randn(n, d, generator=g), labels, prototypes


def test_zero_shot_is_the_accuracy_of_the_nearest_name():
    images, labels, prototypes = prototypes_and_images(80, 6, 12, 0)
    right = 0
    for image, label in zip(images.double(), labels, strict=True):
        cosines = [float(image @ p / (image.norm() * p.norm())) for p in prototypes.double()]
        right += max(range(6), key=cosines.__getitem__) == int(label)
    assert 0.2 < right / 80 < 0.99
    score = zero_shot(images, labels, prototypes, blocks=block_ids(labels))
    assert score.value == pytest.approx(right / 80, abs=1e-12)
    assert score.stderr == pytest.approx(math.sqrt(score.value * (1 - score.value) / 80), rel=0.5)
    scaled = zero_shot(images * 7, labels, prototypes * torch.rand(6, 1).add(0.1))
    assert scaled.value == score.value


def test_zero_shot_labels_name_prototypes_by_row_or_by_rank():
    images, labels, prototypes = prototypes_and_images(80, 6, 12, 1)
    base = zero_shot(images, labels, prototypes).value
    assert zero_shot(images, labels * 10 + 5, prototypes).value == base
    present = labels < 4
    some = zero_shot(images[present], labels[present], prototypes)
    assert some.diagnostics["absent_classes"] == 2
    with pytest.raises(InvalidInput, match="which of 6"):
        zero_shot(images[present], labels[present] + 100, prototypes)


def test_zero_shot_degenerate_and_invalid_input():
    images, labels, prototypes = prototypes_and_images(20, 3, 5, 2)
    with pytest.raises(Degenerate, match="zero"):
        zero_shot(images, labels, prototypes * torch.tensor([[1.0], [0.0], [1.0]]))
    with pytest.raises(Degenerate, match="one prototype"):
        zero_shot(images, torch.zeros(20, dtype=torch.int64), prototypes[:1])
    with pytest.raises(Degenerate, match="zero"):
        zero_shot(torch.zeros(20, 5), labels, prototypes)
    with pytest.raises(InvalidInput, match="columns"):
        zero_shot(images, labels, prototypes[:, :4])
    one_zero = images.clone()
    one_zero[labels == 0] = 0
    assert zero_shot(one_zero, labels, prototypes).value <= float((labels != 0).double().mean())
