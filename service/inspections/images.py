"""The distinct images of a dataset, as an inspection speaks of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from service.datasets.manifest import Manifest
from service.datasets.names import Split

_ORDER: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Images:
    """One entry an image, in the order of the content hashes; an image of two splits has a path in each."""

    hashes: list[bytes]
    labels: npt.NDArray[np.int64]
    paths: list[dict[Split, str]]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.hashes)

    def describe(self, number: int, /, split: Split | None = None) -> dict[str, Any]:
        shown = split if split is not None else min(self.paths[number], key=_ORDER.index)
        return {
            "path": self.paths[number][shown],
            "hash": self.hashes[number].hex(),
            "split": shown,
            "label": self.classes[int(self.labels[number])],
        }

    def of_split(self, split: Split, /) -> list[int]:
        return [number for number, paths in enumerate(self.paths) if split in paths]

    def named(self, name: str, /) -> Iterator[int]:
        """By content hash, or by path."""
        wanted = name.lower()
        for number, (value, paths) in enumerate(zip(self.hashes, self.paths, strict=True)):
            if name in paths.values() or (len(wanted) == 64 and value.hex() == wanted):
                yield number


def distinct_images(manifest: Manifest, /) -> Images:
    hashes: list[bytes] = []
    labels: list[int] = []
    paths: list[dict[Split, str]] = []
    for content_hash, rows in groupby(manifest.rows(), key=lambda row: row.content_hash):
        same = list(rows)
        hashes.append(content_hash)
        labels.append(same[0].label)
        known = {row.split: row.path for row in same}
        paths.append(known)
    return Images(hashes, np.array(labels, dtype=np.int64), paths, manifest.classes)
