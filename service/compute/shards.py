"""Shards of a large dataset: a task embeds one and leaves the class moments of its part of each block.

Moments add up, so that what is scored from them alone needs no row again, on whatever machine.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from estimators.blocks import BlockMoments, block_ids
from estimators.moments import ClassMoments, MomentAccumulator
from service.compute.reference import ROWS_AT_ONCE
from service.core.ids import new_id
from service.embeddings.model import StoreKey
from service.embeddings.protocol import EmbeddingStore


@dataclass(frozen=True, slots=True)
class Sharded:
    """A dataset's images in content-hash order, dealt into shards: those of a block stand together."""

    hashes: Sequence[bytes]
    labels: npt.NDArray[np.int64]
    blocks: npt.NDArray[np.int64]
    positions: Sequence[npt.NDArray[np.int64]]  # of each shard's images

    @classmethod
    def deal(cls, hashes: Sequence[bytes], labels: npt.NDArray[np.int64], n_shards: int, /) -> "Sharded":
        blocks = block_ids(torch.from_numpy(labels)).numpy()
        return cls(hashes, labels, blocks, np.array_split(np.argsort(blocks, kind="stable"), n_shards))

    def images(self, shard: int, /) -> list[bytes]:
        return [self.hashes[i] for i in self.positions[shard]]

    def digest(self, shard: int, /) -> str:
        """Of all that moments depend on beside the features."""
        at = self.positions[shard]
        found = hashlib.sha256(self.labels[at].tobytes() + self.blocks[at].tobytes())
        for image in self.images(shard):
            found.update(image)
        return found.hexdigest()


@dataclass(frozen=True, slots=True)
class ShardMoments:
    """Moments by shard, in files that may go at any time: they are made again from the stored features."""

    root: Path

    def leave(self, key: StoreKey, dataset: Sharded, shard: int, store: EmbeddingStore, /) -> None:
        """Leaves a shard's moments for whoever scores, where they are less than its rows."""
        path = self._path(key, dataset, shard)
        if path.exists():
            return
        made = _accumulated(key, dataset, shard, store)
        arrays = {f"{block} {name}": v for block, part in made.items() for name, v in part.to_arrays().items()}
        width = next(iter(made.values())).dim
        if sum(array.nbytes for array in arrays.values()) >= len(dataset.positions[shard]) * width * 4:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        arriving = path.with_suffix(f".{new_id('tmp')}")
        try:
            with arriving.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            arriving.rename(path)
        finally:
            arriving.unlink(missing_ok=True)

    def merged(self, key: StoreKey, dataset: Sharded, store: EmbeddingStore, /) -> BlockMoments:
        """Moments of the whole dataset by block; never more than a few thousand rows are in memory."""
        parts: dict[int, ClassMoments] = {}
        for shard in range(len(dataset.positions)):
            found = self._left(self._path(key, dataset, shard)) or _accumulated(key, dataset, shard, store)
            for block, part in found.items():
                parts[block] = parts[block] + part if block in parts else part
        return BlockMoments.of(parts[block] for block in sorted(parts))

    def forget(self, key: StoreKey, dataset: Sharded, /) -> None:
        for shard in range(len(dataset.positions)):
            self._path(key, dataset, shard).unlink(missing_ok=True)

    def _path(self, key: StoreKey, dataset: Sharded, shard: int) -> Path:
        return self.root / key.project_id / key.extractor_id / f"{dataset.digest(shard)}.npz"

    @staticmethod
    def _left(path: Path) -> dict[int, ClassMoments] | None:
        try:
            with path.open("rb") as file, np.load(file) as kept:
                arrays = dict(kept)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        by_block: dict[int, dict[str, npt.NDArray[np.generic]]] = {}
        for name, array in arrays.items():
            block, _, field = name.partition(" ")
            by_block.setdefault(int(block), {})[field] = array
        return {block: ClassMoments.from_arrays(fields) for block, fields in by_block.items()}


def _accumulated(key: StoreKey, dataset: Sharded, shard: int, store: EmbeddingStore) -> dict[int, ClassMoments]:
    parts: dict[int, MomentAccumulator] = {}
    positions = dataset.positions[shard]
    for start in range(0, len(positions), ROWS_AT_ONCE):
        at = positions[start : start + ROWS_AT_ONCE]
        rows = torch.from_numpy(store.get(key, [dataset.hashes[i] for i in at]))
        for block in np.unique(dataset.blocks[at]).tolist():
            own = dataset.blocks[at] == block
            accumulator = parts.setdefault(block, MomentAccumulator())
            accumulator.add(rows[torch.from_numpy(own)], torch.from_numpy(dataset.labels[at][own]))
    return {block: accumulator.moments() for block, accumulator in parts.items()}
