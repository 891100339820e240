"""A card fine-tuned on a labelled set of images, and how right it then is on others."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from service.compute.training import (
    Backbone,
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
from zoo.build import build, require_architecture
from zoo.catalog import ModelCard, PreprocessConfig
from zoo.extract import pooled
from zoo.preprocess import decode, prepare
from zoo.weights import fetch

RECIPES = {
    recipe.id: recipe
    for recipe in (
        Recipe(id="default-1", side=128, epochs=6, rates=(1e-4, 3e-4)),
        Recipe(id="fast-1", side=128, epochs=3, rates=(2e-4,)),
    )
}


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A model and a dataset, ready to train.

    Attributes:
        features: of the training images, the weights as they came; `test_features` those of the test images.
    """

    backbone: Backbone
    images: Images
    test: Images
    classes: int
    features: Tensor
    test_features: Tensor

    def head(self, rows: Tensor | None = None, /) -> Head:
        """The ridge head on the training images, or on these of them."""
        features, labels = self.features, self.images.labels
        if rows is not None:
            features, labels = features[rows], labels[rows]
        return ridge_head(features, labels, classes=self.classes)

    def accuracy(self, head: Head, /) -> float:
        """On the test images, with nothing but the head trained: a linear probe."""
        return accuracy(head, self.test_features, self.test.labels)


@dataclass(frozen=True, slots=True)
class Outcome:
    accuracy: float
    n_test: int
    probe: float
    chosen: Trial
    trials: tuple[Trial, ...]
    seconds: float


def pixels(encoded: Iterable[bytes], side: int, /) -> Tensor:
    """uint8 `[N, 3, side, side]`: the whole image, squashed to a square, since a crop may lose what the label names."""
    config = PreprocessConfig(input_size=(3, side, side), crop_pct=1.0, crop_mode="squash")
    return torch.stack([prepare(decode(data), config) for data in encoded])


def pair(card: ModelCard, images: Images, test: Images, /, *, classes: int, cache_dir: Path) -> Pair:
    """Loads the model and fits the ridge head. Raises ZooError where the model cannot be had."""
    require_architecture(card)
    path = fetch(card.weights, cache_dir=cache_dir, library=card.library).path
    module = build(card, path).module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    backbone = Backbone(
        module, lambda net, inputs: pooled(net, card, inputs), mean=card.preprocess.mean, std=card.preprocess.std
    )
    features, test_features = (frozen_features(backbone, part.pixels) for part in (images, test))
    return Pair(backbone, images, test, classes, features, test_features)


def trial(
    ready: Pair,
    recipe: Recipe,
    /,
    *,
    rate: float,
    seed: int,
    told: Callable[[int, float], None] = lambda _epoch, _accuracy: None,
) -> Trial:
    kept, held = split(ready.images.labels, recipe.validation, seed=seed)
    head = sharpened(ready.head(kept), ready.features[held], ready.images.labels[held])
    images, chooser = ready.images.take(kept), ready.images.take(held)
    return train(ready.backbone, head, images, chooser, ready.test, recipe, rate=rate, seed=seed, told=told)


def best(trials: Iterable[Trial], /) -> Trial:
    """The trial that the held images prefer; the test images have no say."""
    return max(trials, key=lambda t: (t.validation[t.epoch], -t.validation_loss))
