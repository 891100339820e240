"""Blocks of images: the parts a delete-one-block jackknife leaves out in turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from estimators.errors import InvalidInput
from estimators.moments import ClassMoments, MomentAccumulator

N_BLOCKS = 10


def block_ids(labels: Tensor, /, *, n_blocks: int = N_BLOCKS) -> Tensor:
    """The block of each image: class by class, round robin in row order.

    Each class is spread as evenly as its size allows, and the next class goes on where the last one stopped, so that
    blocks differ by at most one image in size. The same rows in the same order always get the same blocks, whatever the
    model: that is what makes the comparison of two models paired.

    Args:
        labels: Class ids `[N]` (integers), or regression targets `[N]` or `[N, K]`, which are dealt in row order.
        n_blocks: How many blocks, at least 2.

    Returns:
        Block numbers `[N]`, int64, in 0..n_blocks-1.
    """
    if n_blocks < 2:
        raise InvalidInput(f"n_blocks must be at least 2, got {n_blocks}")
    ids = torch.arange(labels.shape[0], device=labels.device) % n_blocks
    if labels.ndim != 1 or labels.dtype.is_floating_point:
        return ids
    order = torch.argsort(labels, stable=True)
    return torch.empty_like(ids).scatter_(0, order, ids)


@dataclass(frozen=True, slots=True, eq=False)
class BlockMoments:
    """Class moments of each block of a dataset, and of all of it.

    Attributes:
        parts: Moments per block, in block order.
        total: Moments of all images.
    """

    parts: tuple[ClassMoments, ...]
    total: ClassMoments

    @classmethod
    def from_features(cls, features: Tensor, labels: Tensor, blocks: Tensor, /) -> BlockMoments:
        """Moments of features `[N, D]` with labels `[N]`, by block number `[N]`."""
        return cls.accumulate([(features, labels, blocks)])

    @classmethod
    def accumulate(cls, batches: Iterable[tuple[Tensor, Tensor, Tensor]], /) -> BlockMoments:
        """Moments of a stream of (features `[n, D]`, labels `[n]`, block numbers `[n]`), in one pass."""
        parts: dict[int, MomentAccumulator] = {}
        shift: Tensor | None = None
        for features, labels, blocks in batches:
            if shift is None:
                shift = features.to(torch.float64).mean(0)
            for block in torch.unique(blocks).tolist():
                mask = blocks == block
                if block not in parts:
                    parts[block] = MomentAccumulator(shift=shift)
                parts[block].add(features[mask.to(features.device)], labels[mask.to(labels.device)])
        return cls.of([parts[block].moments() for block in sorted(parts)])

    @classmethod
    def of(cls, parts: Iterable[ClassMoments], /) -> BlockMoments:
        """From the moments of each block."""
        kept = tuple(parts)
        if not kept:
            raise InvalidInput("no blocks")
        return cls(kept, reduce(add, kept))

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.parts)

    def without(self, block: int, /) -> ClassMoments:
        """Moments of all images but those of one block."""
        if self.n_blocks < 2:
            raise InvalidInput("there is one block only: nothing is left without it")
        if self.total.rows is not None:
            return reduce(add, (part for i, part in enumerate(self.parts) if i != block))
        return self.total - self.parts[block]
