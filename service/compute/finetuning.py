"""A card fine-tuned on a labelled set of images, and how right it then is on others."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

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
from service.datasets.manifest import Manifest
from zoo.build import build, require_architecture
from zoo.catalog import ModelCard, PreprocessConfig, extractor_id
from zoo.extract import arithmetic, pooled
from zoo.preprocess import decode, prepare
from zoo.weights import fetch

DEFAULT = Recipe(id="default-1", side=128, epochs=6, rates=(1e-4, 3e-4))
FAST = Recipe(id="fast-1", side=128, epochs=3, rates=(3e-4,), most=1000)
RECIPES = {recipe.id: recipe for recipe in (DEFAULT, FAST)}
HELD_OUT = 0.3
SEED = 0


@dataclass(frozen=True, slots=True, eq=False)
class Sets:
    """What is trained on and what it is measured on; `tested_on` says in words what the latter is."""

    train: Images
    test: Images
    classes: int
    tested_on: str
    sampled: bool


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
    weights_sha256: str

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
    """`probe` is what a ridge head on all training images gets, with nothing else trained."""

    accuracy: float
    n_test: int
    probe: float
    chosen: Trial
    seconds: float
    weights_sha256: str
    extractor_id: str


class TooFewImages(ValueError):
    """There is nothing to train on, or nothing to measure on."""


def sets(
    manifest: Manifest,
    read_blob: Callable[[bytes], bytes],
    recipe: Recipe,
    /,
    *,
    look: Callable[[int, int], None] = lambda _done, _total: None,
) -> Sets:
    """Reads and resizes the images once for all models; without a test split, a share of each class is held out.

    Raises:
        TooFewImages: No class has two images, or there is one class.
    """
    labels = torch.from_numpy(manifest.labels.copy())
    parts = manifest.table["split"].to_pylist()
    measured = next((name for name in ("test", "validation") if name in manifest.splits), None)
    if measured is None or len(manifest.splits) == 1:
        kept, held = split(labels, HELD_OUT, seed=SEED)
        tested_on = f"{HELD_OUT:.0%} of the images of each class, held out"
    else:
        # With a test split, validation images are trained on: the recipe cuts its own from what it trains on.
        is_test = torch.tensor([part == measured for part in parts])
        kept, held = (~is_test).nonzero().flatten(), is_test.nonzero().flatten()
        tested_on = f"the {measured} split"
    if torch.bincount(labels[kept]).count_nonzero() < 2 or held.numel() == 0:
        raise TooFewImages("fine-tuning needs images of two classes or more to train on, and others to measure on")
    chosen = [_sample(rows, labels, recipe.most) for rows in (kept, held)]
    hashes, total, done = manifest.content_hashes, sum(map(len, chosen)), 0

    def encoded(rows: Tensor) -> Iterable[bytes]:
        nonlocal done
        for row in rows.tolist():
            look(done, total)
            yield read_blob(hashes[row].tobytes())
            done += 1

    images, test = (Images(pixels(encoded(rows), recipe.side), labels[rows]) for rows in chosen)
    sampled = total < kept.numel() + held.numel()
    return Sets(images, test, len(manifest.classes), tested_on, sampled)


def measure(
    card: ModelCard,
    data: Sets,
    recipe: Recipe,
    /,
    *,
    device: torch.device,
    cache_dir: Path,
    look: Callable[[int, int], None] = lambda _done, _total: None,
) -> Outcome:
    """Fine-tunes the card's model at every learning rate of the recipe.

    `look` is told how many epochs are done, before each step; what it raises ends the work.

    Raises:
        ZooError: The model cannot be had.
        TooFewImages: No class has three images to train on.
        Diverged: At every learning rate, the loss was no longer a number.
        OutOfMemoryError: torch's; the device does not hold it.
    """
    began = time.perf_counter()
    total = recipe.epochs * len(recipe.rates)
    look(0, total)
    ready = pair(card, data.train, data.test, classes=data.classes, device=device, cache_dir=cache_dir)
    trials: list[Trial] = []
    diverged: Diverged | None = None
    for number, rate in enumerate(recipe.rates):
        before = number * recipe.epochs - 1

        def step(epoch: int, before: int = before) -> None:
            look(before + epoch, total)

        try:
            trials.append(trial(ready, recipe, rate=rate, seed=SEED, look=step))
        except Diverged as error:
            diverged = error
    if not trials and diverged is not None:
        raise diverged
    chosen = best(trials)
    return Outcome(
        accuracy=chosen.test,
        n_test=len(data.test),
        probe=ready.accuracy(ready.head()),
        chosen=chosen,
        seconds=time.perf_counter() - began,
        weights_sha256=ready.weights_sha256,
        extractor_id=extractor_id(card, weights_sha256=ready.weights_sha256),
    )


def pixels(encoded: Iterable[bytes], side: int, /) -> Tensor:
    """uint8 `[N, 3, side, side]`: the whole image, squashed to a square, since a crop may lose what the label names."""
    config = PreprocessConfig(input_size=(3, side, side), crop_pct=1.0, crop_mode="squash")
    return torch.stack([prepare(decode(data), config) for data in encoded])


def pair(
    card: ModelCard, images: Images, test: Images, /, *, classes: int, device: torch.device, cache_dir: Path
) -> Pair:
    """Loads the model and passes the images. Raises ZooError where the model cannot be had."""
    require_architecture(card)
    fetched = fetch(card.weights, cache_dir=cache_dir, library=card.library)
    module = build(card, fetched.path).module.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = card.preprocess.mean, card.preprocess.std
    backbone = Backbone(module, lambda net, inputs: pooled(net, card, inputs), mean=mean, std=std, device=device)
    with arithmetic(device, "float32"):
        features, test_features = (frozen_features(backbone, part.pixels) for part in (images, test))
    return Pair(backbone, images, test, classes, features, test_features, fetched.sha256)


def trial(
    ready: Pair,
    recipe: Recipe,
    /,
    *,
    rate: float,
    seed: int,
    look: Callable[[int], None] = lambda _epoch: None,
) -> Trial:
    kept, held = split(ready.images.labels, recipe.validation, seed=seed)
    if held.numel() == 0:
        raise TooFewImages("no class has images enough for some to choose the learning rate by")
    head = sharpened(ready.head(kept), ready.features[held], ready.images.labels[held])
    images, chooser = ready.images.take(kept), ready.images.take(held)
    with arithmetic(ready.backbone.device, "float32"):
        return train(ready.backbone, head, images, chooser, ready.test, recipe, rate=rate, seed=seed, look=look)


def best(trials: Iterable[Trial], /) -> Trial:
    """The trial that the held images prefer; the test images have no say."""
    return max(trials, key=lambda t: (t.validation[t.epoch], -t.validation_loss))


def _sample(rows: Tensor, labels: Tensor, most: int, /) -> Tensor:
    if rows.numel() <= most:
        return rows
    _, held = split(labels[rows], most / rows.numel(), seed=SEED)
    return rows[held]
