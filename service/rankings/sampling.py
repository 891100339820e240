"""Nested samples of a dataset's images: a larger one holds the smaller, so that no image is embedded twice."""

import numpy as np
import numpy.typing as npt

FIRST_OF_EACH = 2


def order(labels: npt.NDArray[np.int64], /) -> npt.NDArray[np.int64]:
    """Positions of the images in the order in which samples take them; they lie in content-hash order.

    The first two of each class come before all others; after that every class gives in proportion to its size.
    """
    place = np.empty(len(labels), dtype=np.float64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
        place[members[:FIRST_OF_EACH]] -= 1.0
    return np.lexsort((np.arange(len(labels)), place))


def sample(labels: npt.NDArray[np.int64], size: int, /) -> npt.NDArray[np.int64]:
    """Positions of the sample's images, in content-hash order: the blocks of every model then pair up."""
    return np.sort(order(labels)[:size])
