"""Blocks of images: the parts a delete-one-block jackknife leaves out in turn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from estimators._moments_rows import class_sums
from estimators.errors import InvalidInput
from estimators.moments import ClassMoments, MomentAccumulator

N_BLOCKS = 10
_SEED = 20261121
_LARGEST_SHARE = 1 / 3  # of a class in one block


def block_ids(labels: Tensor, /, *, n_blocks: int = N_BLOCKS) -> Tensor:
    """The block of each image: dealt at random, with a fixed seed, whatever the class.

    A set of images is a draw of classes as well as of images: blocks that held every class in equal parts would not see
    how a value moves with the class shares. Only a class that would have more than a third of its images in one block
    is dealt evenly, so that no block takes a small class away. The same rows in the same order always get the same
    blocks, whatever the model: that is what makes the comparison of two models paired.

    Args:
        labels: Class ids `[N]` (integers), or regression targets `[N]` or `[N, K]`.
        n_blocks: How many blocks, at least 2.

    Returns:
        Block numbers `[N]`, int64, in 0..n_blocks-1; blocks differ by at most one image, small classes aside.
    """
    if n_blocks < 2:
        raise InvalidInput(f"n_blocks must be at least 2, got {n_blocks}")
    n = labels.shape[0]
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(_SEED))
    ids = torch.empty(n, dtype=torch.int64)
    ids[shuffled] = torch.arange(n) % n_blocks
    if labels.ndim == 1 and not labels.dtype.is_floating_point:
        classes = torch.unique(labels.cpu(), return_inverse=True)[1]
        held = torch.bincount(classes * n_blocks + ids, minlength=(int(classes.max()) + 1) * n_blocks)
        held = held.reshape(-1, n_blocks)
        for c in (held.amax(1) > _LARGEST_SHARE * held.sum(1)).nonzero()[:, 0].tolist():
            own = (classes == c).nonzero()[:, 0]
            ids[own] = (ids[own[0]] + torch.arange(own.shape[0])) % n_blocks
    return ids.to(labels.device)


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
    def from_features(
        cls, features: Tensor, labels: Tensor, blocks: Tensor, /, *, around: tuple[Tensor, Tensor] | None = None
    ) -> BlockMoments:
        """Moments of features `[N, D]` with labels `[N]`, by block number `[N]`.

        `around`: a point `[D]`, and the sum of outer products of all features about it `[D, D]`, where that is known.
        """
        if around is None:
            return cls.accumulate([(features, labels, blocks)])
        shift, second = around
        parts = cls._parts([(features, labels, blocks)], shift)
        if any(part.rows is None for part in parts):
            return cls.of(parts)
        return cls(tuple(parts), replace(ClassMoments.union(parts, scatter=False), second=second))

    @classmethod
    def accumulate(cls, batches: Iterable[tuple[Tensor, Tensor, Tensor]], /) -> BlockMoments:
        """Moments of a stream of (features `[n, D]`, labels `[n]`, block numbers `[n]`), in one pass."""
        return cls.of(cls._parts(batches, None))

    @staticmethod
    def _parts(batches: Iterable[tuple[Tensor, Tensor, Tensor]], shift: Tensor | None) -> list[ClassMoments]:
        parts: dict[int, MomentAccumulator] = {}
        for features, labels, blocks in batches:
            if shift is None:
                shift = features.to(torch.float64).mean(0)
            for block in torch.unique(blocks).tolist():
                mask = blocks == block
                if block not in parts:
                    parts[block] = MomentAccumulator(shift=shift)
                parts[block].add(features[mask.to(features.device)], labels[mask.to(labels.device)])
        return [parts[block].moments() for block in sorted(parts)]

    @classmethod
    def of(cls, parts: Iterable[ClassMoments], /) -> BlockMoments:
        """From the moments of each block."""
        kept = tuple(parts)
        if not kept:
            raise InvalidInput("no blocks")
        return cls(kept, ClassMoments.union(kept))

    def relabelled(self, features: Tensor, labels: Tensor, blocks: Tensor, /) -> BlockMoments:
        """The same rows in the same blocks with other labels: no scatter is computed again."""
        numbers = torch.unique(blocks).tolist()
        masks = [(blocks == block).to(features.device) for block in numbers]
        own = labels.to(features.device)
        parts = tuple(
            _relabelled(part, features[mask], own[mask]) for part, mask in zip(self.parts, masks, strict=True)
        )
        total = ClassMoments.union(parts, scatter=False)
        if self.total.rows is not None:
            # rows are in the order of the blocks, as `union` puts them
            own = torch.cat([own[mask] for mask in masks])
            row_labels = torch.searchsorted(torch.tensor(total.labels, device=own.device), own)
            total = replace(total, rows=self.total.rows, row_labels=row_labels)
        return BlockMoments(parts, replace(total, second=self.total.second))

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.parts)

    def without(self, block: int, /) -> ClassMoments:
        """Moments of all images but those of one block."""
        if self.n_blocks < 2:
            raise InvalidInput("there is one block only: nothing is left without it")
        if self.total.rows is not None:
            return ClassMoments.union([part for i, part in enumerate(self.parts) if i != block])
        return self.total - self.parts[block]


def _relabelled(part: ClassMoments, features: Tensor, labels: Tensor) -> ClassMoments:
    """A block's moments with other labels: what does not depend on them is shared."""
    found, positions = torch.unique(labels, return_inverse=True)
    sums, squares = class_sums(features, positions, part.shift, found.shape[0])
    return replace(
        part,
        labels=tuple(int(label) for label in found.tolist()),
        counts=torch.bincount(positions, minlength=found.shape[0]),
        sums=sums,
        squares=squares,
        row_labels=None if part.rows is None else positions,
    )
