"""How alike datasets are, and how much more those say that are like the target. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.catalog import Modality

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating]

MOST_COPIES = 4  # a dataset just like the target counts for as many others more


def signature(features: Floats, labels: npt.NDArray[np.int64], /) -> npt.NDArray[np.float32]:
    """`[2 D + 2]`, of length 1 but for the last two: where the images lie and how widely, how far the classes lie
    apart (their means' share of all variance), and how many there are.
    """
    import numpy as np

    rows = np.asarray(features, dtype=np.float64)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    classes, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members).astype(np.float64)
    sums = np.zeros((len(classes), rows.shape[1]))
    np.add.at(sums, members, rows)
    between = float((counts[:, None] * (sums / counts[:, None] - mean) ** 2).sum() / len(rows))
    total = float((deviation**2).sum())
    place = np.concatenate([mean, deviation])
    length = float(np.linalg.norm(place)) or 1.0
    apart = between / total if total > 0 else 0.0
    return np.concatenate([place / length, [0.1 * apart, 0.05 * np.log2(len(classes))]]).astype(np.float32)


def closeness(distances: Sequence[float], /) -> list[float]:
    """1 for the same place, 0.6 for the median distance of the known datasets, towards 0 for those far off."""
    import numpy as np

    if not len(distances):
        return []
    scale = float(np.median(distances)) or 1.0
    return [float(np.exp(-0.5 * (distance / scale) ** 2)) for distance in distances]


def copies(similar: Mapping[str, float], dataset_id: str | None, /) -> int:
    """How many times a dataset's outcomes count beside those of datasets of which nothing is known."""
    return 1 + round(MOST_COPIES * similar.get(dataset_id or "", 0.0))


def in_words(names: Sequence[tuple[str, float]], model: str, seen: int, /, *, of: Modality = "image") -> str | None:
    if not names:
        return None
    listed = ", ".join(f"{name} ({share:.2f})" for name, share in names[:3])
    return f"Most like {listed}, as {model} sees {seen} of its {of}s: outcomes there count for more."
