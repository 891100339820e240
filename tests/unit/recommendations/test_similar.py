"""Signatures of datasets, and the weight that likeness gives."""

import numpy as np
import pytest

from service.recommendations.similar import closeness, copies, in_words, signature


def test_a_signature_tells_where_images_lie_and_forgets_their_order_and_scale() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    rows = rng.normal(size=(200, 16)) + 3 * rng.normal(size=(4, 16))[labels] + 1
    own = signature(rows, labels)
    dealt = rng.permutation(200)
    assert signature(rows[dealt], labels[dealt]) == pytest.approx(own, rel=1e-5)
    assert signature(7 * rows, labels) == pytest.approx(own, rel=1e-5)
    assert np.linalg.norm(own[:-2]) == pytest.approx(1, rel=1e-5)
    apart, together = own[-2], signature(rows, rng.permutation(labels))[-2]
    assert apart > 5 * together  # classes dealt at random share their means

    half = signature(rows[::2], labels[::2])
    other = signature(rng.normal(size=(200, 16)) - 1, labels)
    assert np.linalg.norm(own - half) < 0.3 * np.linalg.norm(own - other)


def test_what_is_nearer_counts_for_more() -> None:
    near, middle, far = closeness([0.0, 1.0, 3.0])
    assert (near, middle) == (1.0, pytest.approx(0.6065, abs=1e-4))
    assert far < 0.02
    assert closeness([]) == []
    assert [copies({"a": share}, "a") for share in (0.0, 0.5, 1.0)] == [1, 3, 5]
    assert copies({"a": 1.0}, None) == copies({"a": 1.0}, "b") == 1
    assert in_words([], "small", 20) is None
    assert "birds (0.90)" in (in_words([("birds", 0.9)], "small", 20) or "")
