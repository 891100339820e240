"""What no label changes is found once for the same images, and never taken for others'."""

import numpy as np
import pytest
import torch

from service.compute.reference import WarmMoments
from service.compute.scoring import score_model
from service.compute.warm import WarmFindings
from service.embeddings.memory import MemoryStore
from service.embeddings.model import StoreKey
from service.scoring.repository import StoredScore

N, DIM = 330, 24
HASHES = sorted(bytes([n % 251, n // 251]) * 16 for n in range(N))
LABELS = np.random.default_rng(1).integers(0, 4, N)
ESTIMATORS = ("logme", "knn", "h_score")


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    for number, extractor in enumerate("ab"):
        rng = np.random.default_rng(number)
        rows = rng.normal(0, 1, (N, DIM)) + rng.normal(0, 0.5, (4, DIM))[LABELS]
        rows[7] = rows[8] = rows[200]  # equal images are neighbours of one another
        made.put(StoreKey("default", extractor * 64), HASHES, rows.astype(np.float32))
    return made


def scored(store: MemoryStore, findings: WarmFindings, which: list[int], labels: np.ndarray, extractor: str = "a"):
    found = score_model(
        ESTIMATORS,
        [HASHES[i] for i in which],
        labels[which],
        project_id="default",
        extractor_id=extractor * 64,
        has_source_probs=False,
        store=store,
        reference=None,
        warm=WarmMoments(),
        findings=findings,
    )
    assert [score.degenerate for score in found] == [None] * len(ESTIMATORS)
    return found


def assert_same(one: list[StoredScore], other: list[StoredScore]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-9), a.estimator
        assert a.replicates == pytest.approx(b.replicates, rel=1e-9), a.estimator


def test_whatever_was_scored_before_the_scores_are_the_same(store: MemoryStore) -> None:
    everything, most = list(range(N)), [i for i in range(N) if i % 40]
    changed = LABELS.copy()
    changed[::11] = (changed[::11] + 1) % 4
    findings = WarmFindings()
    for which, labels, extractor in (
        (most, LABELS, "a"),
        (most, changed, "a"),
        (most, LABELS, "b"),
        (everything, LABELS, "a"),  # 9 new images among those known
        (everything, changed, "a"),
        (most[:-3], LABELS, "a"),
        (everything, LABELS, "b"),
    ):
        assert_same(
            scored(store, findings, which, labels, extractor), scored(store, WarmFindings(), which, labels, extractor)
        )


def test_only_new_images_are_searched_for_among_all(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from estimators import _rows_search

    searched: list[int] = []
    asked: list[int] = []
    nearest, digests = _rows_search._nearest, _rows_search.row_digests
    monkeypatch.setattr(
        _rows_search,
        "_nearest",
        lambda rows, queries, *more: searched.append(len(queries)) or nearest(rows, queries, *more),
    )
    monkeypatch.setattr(_rows_search, "row_digests", lambda rows: asked.append(len(rows)) or digests(rows))
    findings = WarmFindings()
    scored(store, findings, [i for i in range(N) if i % 40], LABELS)
    scored(store, findings, list(range(N)), LABELS)
    scored(store, findings, list(range(N)), (LABELS + 1) % 4)
    assert asked == [N - 9, 9]
    assert searched == [N - 9]  # the new ones are found while the others are compared with them


def test_what_is_kept_is_bounded(store: MemoryStore) -> None:
    findings = WarmFindings()
    scored(store, findings, list(range(N)), LABELS)
    held = findings.of(StoreKey("default", "a" * 64), HASHES, torch.zeros(0)).nbytes
    assert held > 4 * N * DIM
    small = WarmFindings(kept_bytes=int(1.5 * held))
    for extractor in "aba":
        scored(store, small, list(range(N)), LABELS, extractor)
        assert list(small._kept) == [(StoreKey("default", extractor * 64), tuple(HASHES))]
