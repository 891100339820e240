"""Fine-tuning on a few hundred to a few thousand images: a ridge head first, then every weight.

Pure: networks and tensors in, accuracies out. Nothing here knows of datasets, cards or files.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

_CPU = torch.device("cpu")
_PENALTIES = tuple(10.0 ** (step / 2) for step in range(-8, 7))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that decides an outcome but the model, the data, the learning rate and the seed.

    Attributes:
        id: names these values for ever: other values are another recipe.
        side: images are squashed to a square of so many pixels.
        rates: learning rates of the backbone to choose from.
        head_factor: the head learns so many times faster.
        validation: share of the training images, class by class, that chooses rate and epoch.
        zoom: training images are enlarged by up to this factor and shifted within what that leaves.
        most: of more training or test images than this, a sample is used, class by class.
    """

    id: str
    side: int
    epochs: int
    rates: tuple[float, ...]
    batch: int = 16
    head_factor: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.1
    validation: float = 0.2
    zoom: float = 1.2
    most: int = 5000


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """`pixels` uint8 `[N, 3, S, S]`, `labels` int64 `[N]` in 0..C-1."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return int(self.labels.numel())

    def take(self, rows: Tensor, /) -> "Images":
        return Images(self.pixels[rows], self.labels[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A network in evaluation mode on its device; `features` maps it and a normalised batch to `[N, D]`."""

    module: nn.Module
    features: Callable[[nn.Module, Tensor], Tensor]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    device: torch.device = _CPU


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    weight: Tensor  # [C, D]
    bias: Tensor  # [C]

    def __call__(self, features: Tensor, /) -> Tensor:
        return functional.linear(features, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Trial:
    """One training run at one learning rate. `epoch` 0 is the ridge head on frozen weights.

    Attributes:
        validation: accuracy after each epoch, from 0.
        test: accuracy on the test images with the weights of `epoch`.
    """

    rate: float
    seed: int
    epoch: int
    validation: tuple[float, ...]
    validation_loss: float
    test: float
    seconds: float


class Diverged(ArithmeticError):
    """The loss is no longer a number."""


def split(labels: Tensor, share: float, /, *, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to choose by, class by class; a class of one image is trained on alone."""
    dice = torch.Generator().manual_seed(seed)
    kept, held = [], []
    for label in torch.unique(labels):
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(rows.numel(), generator=dice)]
        count = min(round(share * rows.numel()), rows.numel() - 1)
        held.append(rows[:count])
        kept.append(rows[count:])
    return torch.cat(kept).sort().values, torch.cat(held).sort().values


def frozen_features(backbone: Backbone, pixels: Tensor, /, *, batch: int = 64) -> Tensor:
    """On the CPU, as everything is that is not the network's."""
    with torch.inference_mode():
        parts = [backbone.features(backbone.module, _scaled(backbone, part)) for part in torch.split(pixels, batch)]
    return torch.cat(parts).float().cpu().clone()


def ridge_head(features: Tensor, labels: Tensor, /, *, classes: int) -> Head:
    """The linear map of least squares to the labels' indicators, its penalty chosen by leave-one-out error."""
    from sklearn.linear_model import RidgeCV

    rows = features.double().numpy()
    scale = float(np.square(rows - rows.mean(0)).sum())
    if scale <= 0:
        raise ValueError("the model gives every image the same features")
    targets = functional.one_hot(labels, classes).double().numpy()
    fit = RidgeCV(alphas=[penalty * scale / len(rows) for penalty in _PENALTIES]).fit(rows, targets)
    return Head(torch.from_numpy(fit.coef_).float(), torch.from_numpy(np.asarray(fit.intercept_)).float())


def accuracy(head: Head, features: Tensor, labels: Tensor, /) -> float:
    return float((head(features).argmax(1) == labels).float().mean())


def sharpened(head: Head, features: Tensor, labels: Tensor, /) -> Head:
    """The head scaled so that its outputs are the best logits: a ridge fit predicts 0 and 1, which are none."""
    logits = head(features)
    factors = [2.0 ** (step / 2) for step in range(-2, 15)]
    losses = [float(functional.cross_entropy(logits * factor, labels)) for factor in factors]
    factor = factors[losses.index(min(losses))]
    return Head(head.weight * factor, head.bias * factor)


def train(
    backbone: Backbone,
    head: Head,
    images: Images,
    held: Images,
    test: Images,
    recipe: Recipe,
    /,
    *,
    rate: float,
    seed: int,
    look: Callable[[int], None] = lambda _epoch: None,
) -> Trial:
    """Trains a copy of the network and measures the epoch that the held images choose on the test images.

    `look` is called before each step with the epoch it belongs to; what it raises ends the training.

    Normalisation keeps its statistics and dropout stays off: a few hundred images would spoil the former, and the
    latter would only slow the few steps there are.

    Raises:
        Diverged: the loss is no longer a number.
    """
    began = time.perf_counter()
    network = _Network(backbone, head)
    steps = math.ceil(len(images) / recipe.batch) * recipe.epochs
    optimiser = torch.optim.AdamW(_groups(network, recipe, rate), lr=rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _factor(step, steps, recipe.warmup))
    dice = torch.Generator().manual_seed(seed)
    right, loss = _measured(network, held)
    curve, best = [right], (right, -loss, 0)
    kept = copy.deepcopy(network.state_dict())
    for epoch in range(1, recipe.epochs + 1):
        for rows in _batches(len(images), recipe.batch, dice):
            look(epoch)
            inputs = _varied(_scaled(backbone, images.pixels[rows]), recipe.zoom, dice)
            cost = functional.cross_entropy(network(inputs), images.labels[rows].to(backbone.device))
            if not bool(torch.isfinite(cost)):
                raise Diverged(f"the loss is not a number in epoch {epoch} at rate {rate:g}")
            optimiser.zero_grad(set_to_none=True)
            cost.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        right, loss = _measured(network, held)
        curve.append(right)
        # An equal accuracy with a smaller loss is the better model; between equals the later one has seen more.
        if (right, -loss) >= best[:2]:
            best = (right, -loss, epoch)
            kept = copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    score, _ = _measured(network, test)
    return Trial(rate, seed, best[2], tuple(curve), -best[1], score, time.perf_counter() - began)


class _Network(nn.Module):
    def __init__(self, backbone: Backbone, head: Head, /) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone.module).eval().requires_grad_(requires_grad=True)
        self.head = nn.Linear(head.weight.shape[1], head.weight.shape[0])
        self.head.load_state_dict({"weight": head.weight, "bias": head.bias})
        self.head.to(backbone.device)
        self._source = backbone

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self._source.features(self.backbone, inputs))
        return logits

    def logits(self, pixels: Tensor, /) -> Tensor:
        with torch.inference_mode():
            return torch.cat([self(_scaled(self._source, part)).cpu() for part in torch.split(pixels, 64)])


def _groups(network: _Network, recipe: Recipe, rate: float, /) -> list[dict[str, object]]:
    # Decay pulls a normalisation's scale to nothing, which is not what it is for.
    body = list(network.backbone.parameters())
    return [
        {"params": [p for p in body if p.ndim > 1], "lr": rate},
        {"params": [p for p in body if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
        {"params": list(network.head.parameters()), "lr": rate * recipe.head_factor},
    ]


def _factor(step: int, steps: int, warmup: float, /) -> float:
    ahead = max(1, round(warmup * steps))
    if step < ahead:
        return (step + 1) / ahead
    return 0.5 * (1 + math.cos(math.pi * (step - ahead) / max(1, steps - ahead)))


def _measured(network: _Network, images: Images, /) -> tuple[float, float]:
    logits = network.logits(images.pixels)
    right = float((logits.argmax(1) == images.labels).float().mean())
    return right, float(functional.cross_entropy(logits, images.labels))


def _batches(count: int, size: int, dice: torch.Generator, /) -> Iterator[Tensor]:
    return iter(torch.split(torch.randperm(count, generator=dice), size))


def _scaled(backbone: Backbone, pixels: Tensor, /) -> Tensor:
    there = pixels.to(backbone.device).contiguous(memory_format=torch.channels_last).float()
    mean, std = (there.new_tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
    return there.div_(255).sub_(mean).div_(std)


def _varied(inputs: Tensor, zoom: float, dice: torch.Generator, /) -> Tensor:
    """Each image enlarged and shifted by chance; never mirrored, for letters, digits and arrows are not."""
    count = inputs.shape[0]
    share = 1 - torch.rand(count, generator=dice) * (1 - 1 / zoom)  # of the side that stays in view
    shift = (2 * torch.rand(count, 2, generator=dice) - 1) * (1 - share)[:, None]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = share
    theta[:, :, 2] = shift
    # drawn on the CPU, so that a seed means the same on every device
    grid = functional.affine_grid(theta.to(inputs.device), list(inputs.shape), align_corners=False)
    varied = functional.grid_sample(inputs, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return varied.contiguous(memory_format=torch.channels_last)
