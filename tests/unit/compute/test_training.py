"""The training loop on networks small enough to know what must come out."""

import copy

import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from service.compute.finetuning import SEED, TooFewImages, best, sets
from service.compute.training import (
    Backbone,
    Diverged,
    Head,
    Images,
    Recipe,
    Trial,
    accuracy,
    frozen_features,
    ridge_head,
    sharpened,
    split,
    train,
)
from service.datasets.manifest import Row, build_manifest

SIDE = 16
RECIPE = Recipe(id="test", side=SIDE, epochs=4, rates=(1e-2,), zoom=1.1)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.9)

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.dropout(self.norm(self.convolution(inputs)).relu().mean((2, 3)))
        return features


def backbone(seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    module = Small()
    with torch.no_grad():
        module(torch.randn(8, 3, SIDE, SIDE))  # statistics of its own
    module.eval().requires_grad_(requires_grad=False)
    return Backbone(module, lambda net, inputs: net(inputs), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def stripes(count: int, seed: int, *, share: float = 0.3) -> Images:
    """Upright or level stripes at any place: what pooled random filters tell badly, and trained ones well."""
    dice = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    phase = torch.randint(0, 4, (count, 1), generator=dice)
    wave = ((torch.arange(SIDE)[None] + phase) // 2 % 2).float()
    level = wave[:, :, None].expand(count, SIDE, SIDE)
    upright = wave[:, None, :].expand(count, SIDE, SIDE)
    grey = torch.where(labels[:, None, None] == 0, level, upright)
    noise = torch.rand(count, 3, SIDE, SIDE, generator=dice)
    return Images((255 * (share * grey[:, None] + (1 - share) * noise)).to(torch.uint8), labels)


def trained(images: Images, held: Images, test: Images, *, rate: float = 1e-2, recipe: Recipe = RECIPE) -> Trial:
    net = backbone()
    head = ridge_head(frozen_features(net, images.pixels), images.labels, classes=2)
    return train(net, head, images, held, test, recipe, rate=rate, seed=1)


def test_fine_tuning_finds_what_the_frozen_features_lack() -> None:
    images, held, test = (stripes(count, seed, share=0.12) for count, seed in ((160, 1), (60, 2), (200, 3)))
    net = backbone()
    probe = accuracy(
        ridge_head(frozen_features(net, images.pixels), images.labels, classes=2),
        frozen_features(net, test.pixels),
        test.labels,
    )
    found = trained(images, held, test)
    assert found.epoch > 0
    assert found.test > probe + 0.2
    assert len(found.validation) == RECIPE.epochs + 1


def test_the_same_seed_gives_the_same_numbers_and_leaves_the_network_alone() -> None:
    images, held, test = stripes(40, 1), stripes(20, 2), stripes(20, 3)
    net = backbone()
    before = copy.deepcopy(net.module.state_dict())
    head = ridge_head(frozen_features(net, images.pixels), images.labels, classes=2)
    first, again, other = (train(net, head, images, held, test, RECIPE, rate=1e-2, seed=s) for s in (1, 1, 2))
    assert (first.validation, first.validation_loss, first.test) == (
        again.validation,
        again.validation_loss,
        again.test,
    )
    assert first.validation_loss != other.validation_loss
    assert all(torch.equal(value, before[name]) for name, value in net.module.state_dict().items())
    assert not net.module.training


def test_training_that_harms_is_thrown_away() -> None:
    """Labels of pure chance: the held images know better than to follow them."""
    images, held, test = stripes(60, 1), stripes(60, 2), stripes(60, 3)
    net = backbone()
    head = ridge_head(frozen_features(net, images.pixels), images.labels, classes=2)
    wrong = Images(images.pixels, 1 - images.labels)
    found = train(net, head, wrong, held, test, RECIPE, rate=3e-2, seed=0)
    assert found.epoch == 0
    assert found.test == accuracy(head, frozen_features(net, test.pixels), test.labels)
    assert found.validation[0] == max(found.validation)


def test_a_loss_that_is_no_number_is_an_error() -> None:
    images = stripes(40, 1)
    with pytest.raises(Diverged, match="rate"):
        trained(images, images, images, rate=float("inf"))


def test_what_look_raises_ends_the_training() -> None:
    images = stripes(40, 1)
    net = backbone()
    head = ridge_head(frozen_features(net, images.pixels), images.labels, classes=2)
    seen: list[int] = []

    def look(epoch: int) -> None:
        seen.append(epoch)
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(net, head, images, images, images, RECIPE, rate=1e-3, seed=0, look=look)
    assert seen == [1, 1, 1, 2]


def test_the_head_is_the_ridge_fit_of_the_indicators() -> None:
    dice = torch.Generator().manual_seed(0)
    features, labels = torch.randn(50, 7, generator=dice), torch.arange(50) % 3
    head = ridge_head(features, labels, classes=3)
    fits = [
        Ridge(alpha=alpha).fit(features.double().numpy(), nn.functional.one_hot(labels, 3).double().numpy())
        for alpha in (
            10.0 ** (step / 2) * float((features - features.mean(0)).square().sum()) / 50 for step in range(-8, 7)
        )
    ]
    assert any(torch.allclose(head.weight, torch.from_numpy(fit.coef_).float(), atol=1e-5) for fit in fits)


def test_sharpening_changes_no_answer_and_fits_better() -> None:
    dice = torch.Generator().manual_seed(0)
    features, labels = torch.randn(90, 5, generator=dice), torch.arange(90) % 3
    features[:, :3] += nn.functional.one_hot(labels, 3)
    head = ridge_head(features, labels, classes=3)
    sharp = sharpened(head, features, labels)
    assert torch.equal(head(features).argmax(1), sharp(features).argmax(1))
    loss = nn.functional.cross_entropy
    assert loss(sharp(features), labels) < loss(head(features), labels)


def test_a_split_is_by_class_and_leaves_every_class_something_to_train_on() -> None:
    labels = torch.tensor([0] * 50 + [1] * 10 + [2] * 2 + [3])
    kept, held = split(labels, 0.2, seed=3)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(63))
    assert torch.bincount(labels[held], minlength=4).tolist() == [10, 2, 0, 0]
    again = split(labels, 0.2, seed=3)
    assert torch.equal(held, again[1])
    assert not torch.equal(held, split(labels, 0.2, seed=4)[1])


def test_the_held_images_choose_the_rate() -> None:
    low, high = (Trial(rate, 0, 1, (0.5, right), loss, test, 1.0) for rate, right, loss, test in CHOICES)
    assert best([low, high]) is high


CHOICES = ((1e-4, 0.8, 0.5, 0.99), (1e-3, 0.8, 0.4, 0.10))


def _rows(splits: dict[str, int]) -> list[Row]:
    return [
        Row(bytes([number, label]) * 16, split, label, f"{split}/{label}/{number}.png", 8, 8)  # type: ignore[arg-type]
        for start, (split, count) in enumerate(splits.items())
        for label in (0, 1)
        for number in range(100 * start, 100 * start + count)
    ]


@pytest.mark.parametrize(
    ("splits", "n_train", "n_test", "words"),
    [
        ({"train": 10, "test": 4}, 20, 8, "the test split"),
        ({"train": 10, "validation": 4}, 20, 8, "the validation split"),
        ({"train": 10}, 14, 6, "30% of the images"),
    ],
)
def test_what_is_measured_on(splits: dict[str, int], n_train: int, n_test: int, words: str) -> None:
    from tests.helpers.pictures import class_folders

    png = next(iter(class_folders(each=1).values()))
    found = sets(build_manifest(_rows(splits), ("a", "b")), lambda _hash: png, RECIPE)
    assert (len(found.train), len(found.test)) == (n_train, n_test)
    assert words in found.tested_on
    assert found.train.pixels.shape[1:] == (3, SIDE, SIDE)
    assert not found.sampled


def test_more_images_than_the_recipe_takes_are_sampled_by_class() -> None:
    from dataclasses import replace

    from tests.helpers.pictures import class_folders

    png = next(iter(class_folders(each=1).values()))
    manifest = build_manifest(_rows({"train": 60, "test": 5}), ("a", "b"))
    found = sets(manifest, lambda _hash: png, replace(RECIPE, most=20))
    assert found.sampled
    assert torch.bincount(found.train.labels).tolist() == [10, 10]
    assert len(found.test) == 10


def test_one_class_is_nothing_to_tune_on() -> None:
    rows = [row for row in _rows({"train": 10}) if row.label == 0]
    with pytest.raises(TooFewImages):
        sets(build_manifest(rows, ("a", "b")), lambda _hash: b"", RECIPE)
    assert SEED == 0
    assert Head(torch.zeros(2, 3), torch.zeros(2))(torch.zeros(1, 3)).shape == (1, 2)
