"""What is known of one (model, dataset) pair: the input of every estimator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.blocks import BlockMoments, block_ids
from estimators.catalog import Task
from estimators.errors import InvalidInput
from estimators.label_free import LabelFree
from estimators.moments import ClassMoments


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Everything an estimator may be computed from; what is absent is None, and the panel says what it would take.

    Attributes:
        labels: Class ids `[N]` int64; float `[N]` for regression; 0/1 indicators `[N, K]` for multi-label.
        features: The target's features `[N, D]`, float32 or float64.
        moments: Class moments of the target by block; built from `features` where absent (classification only).
        source_probs: Probabilities over the model's own source classes `[N, Cs]`, rows summing to 1.
        background: Mean `[D]` and standard deviation `[D]` of the same model's features on the reference set; taken
            from `reference_moments` where those are given.
        reference_moments: Moments of the same model's features on the reference set (its classes do not matter).
        reference_features: Features of the same model on the reference set `[M, D]`.
        text_prototypes: One text embedding a class `[C, D]`, in the order of the ascending class ids.
        blocks: Block number of each image `[N]`; `block_ids(labels)` where absent. Models to be compared must be
            scored on the same blocks.
        label_free: What an earlier evaluation found of the same features, whatever their labels; it is added to.
    """

    labels: Tensor
    features: Tensor | None = None
    moments: BlockMoments | None = None
    source_probs: Tensor | None = None
    background: tuple[Tensor, Tensor] | None = None
    reference_moments: ClassMoments | None = None
    reference_features: Tensor | None = None
    text_prototypes: Tensor | None = None
    blocks: Tensor | None = None
    label_free: LabelFree | None = None

    def __post_init__(self) -> None:
        """Check that what is given agrees in its shapes."""
        n = self.labels.shape[0] if self.labels.ndim else 0
        if not 1 <= self.labels.ndim <= 2 or not n:
            raise InvalidInput(f"labels must be [N] or [N, K] with N > 0, got shape {tuple(self.labels.shape)}")
        if self.labels.ndim == 2 and not bool(((self.labels == 0) | (self.labels == 1)).all()):
            raise InvalidInput("labels [N, K] say of each of K labels whether an image has it: 0 and 1 alone")
        for name, value in (("features", self.features), ("source_probs", self.source_probs)):
            if value is not None and (value.ndim != 2 or value.shape[0] != n):
                raise InvalidInput(f"{name} must be [{n}, ...], one row a label, got shape {tuple(value.shape)}")
        if self.blocks is not None and tuple(self.blocks.shape) != (n,):
            raise InvalidInput(f"blocks must be [{n}], got shape {tuple(self.blocks.shape)}")
        if self.moments is not None and self.moments.total.n != n:
            raise InvalidInput(f"moments of {self.moments.total.n} images with {n} labels")

    @property
    def task(self) -> Task:
        """The kind of labels: integers [N] classify, two columns or more are multi-label, floats [N] are regression."""
        if self.labels.ndim == 2:
            return Task.MULTILABEL
        return Task.REGRESSION if self.labels.dtype.is_floating_point else Task.CLASSIFICATION

    def block_ids(self) -> Tensor:
        """The block of each image."""
        return block_ids(self.labels) if self.blocks is None else self.blocks

    def block_moments(self, *, one: bool = False) -> BlockMoments | None:
        """The moments by block, built from the features where absent; None where there is nothing to build from.

        With `one`, moments that have to be built are those of all images in a single block.
        """
        if self.moments is not None or self.features is None or self.task is not Task.CLASSIFICATION:
            return self.moments
        blocks = self.block_ids().to(self.features.device)
        labels = self.labels.to(self.features.device)
        if one:
            return BlockMoments.from_features(self.features, labels, torch.zeros_like(blocks))
        if self.label_free is not None:
            return self.label_free.moments(self.features, labels, blocks)
        return BlockMoments.from_features(self.features, labels, blocks)

    def background_statistics(self) -> tuple[Tensor, Tensor] | None:
        """Mean and standard deviation of the background, from whichever form it was given in."""
        if self.background is not None or self.reference_moments is None:
            return self.background
        deviation = self.reference_moments.std
        return self.reference_moments.mean, deviation.to(torch.float64)
