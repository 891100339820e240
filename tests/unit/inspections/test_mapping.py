"""The two axes of a dataset's map."""

import numpy as np
import pytest

from service.inspections.mapping import principal_axes


@pytest.mark.parametrize("shape", [(300, 40), (30, 200), (3, 2), (4, 1)])
def test_the_axes_are_those_of_the_singular_value_decomposition(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=shape) * np.linspace(3, 0.1, shape[1]) ** 2 + 5).astype(np.float32)
    places, shares = principal_axes(features)
    centred = features.astype(np.float64) - features.astype(np.float64).mean(0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    found = min(2, len(sizes))
    assert np.abs(places[:, :found]) == pytest.approx(np.abs(left[:, :found] * sizes[:found]), abs=1e-3 * sizes[0])
    assert shares[:found] == pytest.approx(sizes[:found] ** 2 / (sizes**2).sum(), rel=1e-4)
    for axis in places.T:
        assert axis[np.abs(axis).argmax()] >= 0


def test_equal_images_lie_in_one_point() -> None:
    places, shares = principal_axes(np.full((5, 3), 7, dtype=np.float32))
    assert not places.any()
    assert shares == (0.0, 0.0)
