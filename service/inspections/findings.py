"""What nearness says of a dataset: groups of near-copies, leaks between splits, labels that neighbours contradict."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from service.datasets.names import Split
from service.inspections.images import Images
from service.inspections.nearness import (
    MAX_RELATIVE_DISTANCE,
    MIN_CENTRED_COSINE,
    Copies,
    Embedded,
    Near,
    Positions,
    copies,
)

NEIGHBOURS = 10
SHOWN = 100
GROUP_SHOWN = 10
MIN_SHARE_OTHER = 0.6
MAX_SHARE_OWN = 0.2
_TRAIN: Split = "train"
_MEASURED: tuple[Split, ...] = ("validation", "test")

COPY_RULE = (
    f"Two images are near-copies where the cosine distance of their features is at most {MAX_RELATIVE_DISTANCE} of the "
    f"median distance of an image's neighbour number {NEIGHBOURS} in this dataset, and the cosine of their deviations "
    f"from the dataset's mean is at least {MIN_CENTRED_COSINE}. Groups chain such pairs."
)
LABEL_RULE = (
    f"Among an image's {NEIGHBOURS} nearest others, at least {MIN_SHARE_OTHER:.0%} bear one other label and at most "
    f"{MAX_SHARE_OWN:.0%} its own. Ranked by the difference of the two shares."
)
LABEL_LIMITS = (
    "Neighbours also disagree where the model does not tell two classes apart, where an image is unusual, and where "
    "wrong labels stand together: look at each image before it is relabelled. Images of classes with "
    f"{NEIGHBOURS} images or fewer are not judged."
)


def inspect(embedded: Embedded, images: Images, /) -> dict[str, Any]:
    """The whole result, as it is stored and served."""
    everything = np.arange(len(images))
    near = embedded.nearest(everything, everything, NEIGHBOURS)
    typical = near.typical
    pairs = copies(embedded, everything, near, typical)
    return {
        "images": len(images),
        "neighbours": NEIGHBOURS,
        "exact": near.exact,
        "index": near.index,
        "near_copies": {
            "rule": COPY_RULE,
            "max_relative_distance": MAX_RELATIVE_DISTANCE,
            "min_centred_cosine": MIN_CENTRED_COSINE,
            "typical_distance": typical,
            "max_distance": MAX_RELATIVE_DISTANCE * typical,
            **near_copy_groups(images, pairs),
        },
        "leaks": leaks(embedded, images, typical),
        "label_errors": label_errors(images, near),
    }


def near_copy_groups(images: Images, pairs: Copies, /) -> dict[str, Any]:
    """Images that near-copies chain together, the largest groups first."""
    members = connected(len(images), pairs.first, pairs.second)
    of_image = {number: g for g, group in enumerate(members) for number in group}
    least = np.ones(len(members))
    best = np.full(len(images), -1.0)
    for a, b, value in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.similarities, strict=True):
        least[of_image[a]] = min(least[of_image[a]], value)
        best[[a, b]] = np.maximum(best[[a, b]], value)
    for group in members:
        group.sort(key=lambda number: (-best[number], number))  # the surest are shown
    order = sorted(range(len(members)), key=lambda g: (-len(members[g]), -least[g], members[g][0]))
    return {
        "total": len(members),
        "images": sum(map(len, members)),
        "shown": [_group(images, members[g], float(least[g])) for g in order[:SHOWN]],
    }


def _group(images: Images, members: Sequence[int], least: float, /) -> dict[str, Any]:
    splits = {split for number in members for split in images.paths[number]}
    return {
        "size": len(members),
        "least_similarity": least,
        "classes": sorted({images.classes[int(images.labels[number])] for number in members})[:GROUP_SHOWN],
        "splits": [split for split in (_TRAIN, *_MEASURED) if split in splits],
        "images": [images.describe(number) for number in members[:GROUP_SHOWN]],
    }


def connected(n: int, first: Positions, second: Positions, /) -> list[list[int]]:
    """The components of more than one member, in the order of their first members."""
    root = list(range(n))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        low, high = sorted((find(a), find(b)))
        root[high] = low
    groups: dict[int, list[int]] = {}
    for i in sorted({*first.tolist(), *second.tolist()}):
        groups.setdefault(find(i), []).append(i)
    return [groups[key] for key in sorted(groups)]


def leaks(embedded: Embedded, images: Images, typical: float, /) -> dict[str, Any]:
    """Images of validation and test that are in the training split too, as they are or as a near-copy."""
    train = np.array(images.of_split(_TRAIN), dtype=np.int64)
    found: list[tuple[float, bool, int, int, Split]] = []
    counts: dict[Split, dict[str, int]] = {}
    for split in _MEASURED:
        asked = np.array(images.of_split(split), dtype=np.int64)
        if not len(asked) or not len(train):
            continue
        both = np.intersect1d(asked, train)
        rest = np.setdiff1d(asked, both)
        found += [(1.0, True, number, number, split) for number in both.tolist()]
        near_ones: dict[int, tuple[float, int]] = {}
        if len(rest):
            pairs = copies(embedded, rest, embedded.nearest(rest, train, NEIGHBOURS), typical)
            for a, b, value in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.similarities, strict=True):
                near_ones[a] = max(near_ones.get(a, (-2.0, b)), (float(value), b), key=lambda pair: pair[0])
        found += [(value, False, a, b, split) for a, (value, b) in near_ones.items()]
        counts[split] = {"images": len(asked), "identical": len(both), "near_copies": len(near_ones)}
    found.sort(key=lambda leak: (not leak[1], -leak[0], leak[2]))
    return {
        "total": len(found),
        "splits": counts,
        "shown": [
            {
                "image": images.describe(a, split),
                "in_train": images.describe(b, _TRAIN),
                "identical": identical,
                "similarity": value,
            }
            for value, identical, a, b, split in found[:SHOWN]
        ],
    }


def label_errors(images: Images, near: Near, /) -> dict[str, Any]:
    n, there = len(images), near.positions >= 0
    labels = images.labels[np.maximum(near.positions, 0)]
    own = _share(labels == images.labels[:, None], there)
    other, share = _strongest_other(labels, there, images.labels)
    sizes = np.bincount(images.labels, minlength=len(images.classes))
    judged = sizes[images.labels] > NEIGHBOURS
    suspect = judged & (share >= MIN_SHARE_OTHER) & (own <= MAX_SHARE_OWN)
    nearest_other = np.min(np.where(there & (labels == other[:, None]), near.distances, np.inf), axis=1, initial=np.inf)
    order = sorted(np.flatnonzero(suspect).tolist(), key=lambda i: (own[i] - share[i], nearest_other[i], i))
    return {
        "rule": LABEL_RULE,
        "limits": LABEL_LIMITS,
        "neighbours": NEIGHBOURS,
        "min_share_other": MIN_SHARE_OTHER,
        "max_share_own": MAX_SHARE_OWN,
        "judged": int(judged.sum()),
        "not_judged": int(n - judged.sum()),
        "agreement": float((own > share).mean()),
        "total": len(order),
        "shown": [
            {
                "image": images.describe(i),
                "suggested": images.classes[int(other[i])],
                "share_suggested": float(share[i]),
                "share_own": float(own[i]),
                "neighbours": described(images, near, i),
            }
            for i in order[:SHOWN]
        ],
    }


def described(images: Images, near: Near, row: int, /) -> list[dict[str, Any]]:
    return [
        {**images.describe(int(number)), "similarity": 1.0 - float(distance)}
        for number, distance in zip(near.positions[row], near.distances[row], strict=True)
        if number >= 0
    ]


def _share(votes: npt.NDArray[np.bool_], there: npt.NDArray[np.bool_], /) -> npt.NDArray[np.float64]:
    share: npt.NDArray[np.float64] = (votes & there).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return share


def _strongest_other(
    labels: Positions, there: npt.NDArray[np.bool_], own: Positions, /
) -> tuple[Positions, npt.NDArray[np.float64]]:
    """The label that most neighbours bear beside one's own, and its share; the nearest neighbour's among equals."""
    best = np.full(len(own), -1, dtype=np.int64)
    share = np.zeros(len(own))
    for column in range(labels.shape[1]):
        candidate = labels[:, column]
        votes = _share(labels == candidate[:, None], there)
        better = there[:, column] & (candidate != own) & (votes > share)
        best[better], share[better] = candidate[better], votes[better]
    return best, share
