"""The contract of `search`: the store on files against its twin in memory, which compares one pair at a time."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.db import Database
from service.embeddings import derived
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.files import LocalFiles
from service.embeddings.memory import MemoryStore
from service.embeddings.model import StoreKey
from service.embeddings.protocol import METRICS, EmbeddingStore, Metric, Neighbours, Rows
from service.embeddings.store import LocalStore, SegmentStore
from tests.helpers.embeddings import ONE, content

Metrics = pytest.mark.parametrize("metric", METRICS)


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> EmbeddingStore:
    if request.param == "memory":
        return MemoryStore()
    return LocalStore(tmp_path / "segments", request.getfixturevalue("sqlite_database"))


def filled(store: EmbeddingStore, rows: Rows, *, batch: int = 7) -> list[bytes]:
    hashes = [content(n) for n in range(len(rows))]
    for start in range(0, len(rows), batch):
        store.put(ONE, hashes[start : start + batch], rows[start : start + batch])
    return hashes


def normal(n: int, dim: int = 6, *, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


@Metrics
def test_the_nearest_come_first_and_bear_their_true_values(store: EmbeddingStore, metric: Metric) -> None:
    rows, queries = normal(50), normal(9, seed=1)
    found = store.search(ONE, filled(store, rows), queries, 4, metric=metric)
    if metric == "l2":
        far = np.linalg.norm(queries[:, None] - rows[None], axis=2)
    else:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        far = -(queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit.T
    assert np.array_equal(found.positions, np.argsort(far, axis=1)[:, :4])
    np.testing.assert_allclose(found.values, np.sort(far, axis=1)[:, :4] * (1 if metric == "l2" else -1), rtol=1e-5)
    assert (found.exact, found.index) == (True, "flat")


@Metrics
def test_only_the_hashes_given_are_looked_at_and_positions_count_in_them(store: EmbeddingStore, metric: Metric) -> None:
    rows = normal(40)
    hashes = filled(store, rows)
    given_ = [31, 4, 17, 8]
    found = store.search(ONE, [hashes[i] for i in given_], rows[[4, 31, 5]], 4, metric=metric)
    assert found.positions[:2, 0].tolist() == [1, 0]
    assert sorted(found.positions[2].tolist()) == [0, 1, 2, 3]


@Metrics
def test_where_there_are_fewer_than_k_the_rest_is_empty(store: EmbeddingStore, metric: Metric) -> None:
    rows = normal(3)
    hashes = filled(store, rows)
    found = store.search(ONE, hashes[:2], rows, 5, metric=metric)
    assert (found.positions[:, 2:] == -1).all()
    assert np.isnan(found.values[:, 2:]).all()
    assert sorted(found.positions[2, :2].tolist()) == [0, 1]
    none = store.search(ONE, [], rows, 2, metric=metric)
    assert (none.positions == -1).all()
    assert none.values.shape == (3, 2)


@Metrics
def test_a_hash_given_twice_is_one_candidate_at_its_first_place(store: EmbeddingStore, metric: Metric) -> None:
    rows = normal(5)
    a, b, c, *_ = filled(store, rows)
    found = store.search(ONE, [c, a, c, b, a], rows[:1], 5, metric=metric)
    assert found.positions[0, 0] == 1
    assert sorted(found.positions[0, :3].tolist()) == [0, 1, 3]
    assert found.positions[0, 3:].tolist() == [-1, -1]


@Metrics
def test_equal_rows_come_in_the_order_given_and_equally_near(store: EmbeddingStore, metric: Metric) -> None:
    rows = normal(30, 64)
    rows[[3, 11, 19, 27]] = rows[3] * 1000
    hashes = filled(store, rows)
    found = store.search(ONE, hashes, rows[[27, 11]], 6, metric=metric)
    assert found.positions[:, :4].tolist() == [[3, 11, 19, 27]] * 2
    assert (found.values[:, :4] == found.values[:, :1]).all()
    assert found.values[0, 0] == (1 if metric == "cosine" else 0)


@Metrics
def test_a_row_or_query_that_is_not_finite_has_no_neighbour(store: EmbeddingStore, metric: Metric) -> None:
    rows = normal(12)
    rows[2, 1], rows[5, 0] = np.nan, np.inf
    hashes = filled(store, rows)
    found = store.search(ONE, hashes, rows[[0, 2, 5]], 12, metric=metric)
    assert sorted(found.positions[0].tolist()) == [-1, -1, *(i for i in range(12) if i not in {2, 5})]
    assert (found.positions[1:] == -1).all()


def test_a_row_of_zeros_is_similar_to_nothing(store: EmbeddingStore) -> None:
    rows = np.array([[0, 0], [1, 0], [-1, 0]], dtype=np.float32)
    found = store.search(ONE, filled(store, rows), rows[:2], 3, metric="cosine")
    assert found.positions.tolist() == [[0, 1, 2], [1, 0, 2]]
    assert found.values.tolist() == [[0, 0, 0], [1, 0, -1]]


def test_what_cannot_be_searched_is_refused(store: EmbeddingStore) -> None:
    rows = normal(4)
    hashes = filled(store, rows)
    refused: list[tuple[Callable[[], Neighbours], str]] = [
        (lambda: store.search(ONE, hashes, rows, 0, metric="l2"), "k must be"),
        (lambda: store.search(ONE, hashes, rows, 1, metric="euclid"), "metric"),  # type: ignore[arg-type]
        (lambda: store.search(ONE, hashes, rows[:, :5], 1, metric="l2"), r"\[M, 6\]"),
        (lambda: store.search(ONE, hashes, rows[0], 1, metric="l2"), r"\[M, "),
    ]
    for ask, message in refused:
        with pytest.raises(ValueError, match=message):
            ask()
    with pytest.raises(EmbeddingsMissing, match="1 of 5"):
        store.search(ONE, [*hashes, content(99)], rows, 1, metric="l2")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    k=st.integers(1, 8),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    metric=st.sampled_from(METRICS),
)
def test_it_searches_as_its_twin_in_memory(
    tmp_path: Path, sqlite_database: Database, seed, n, k, scale, metric
) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.integers(-2, 3, (n, 4)) * scale).astype(np.float32)  # few values: many ties and repeated rows
    queries = np.concatenate([rows[: n // 2], (rng.standard_normal((5, 4)) * scale).astype(np.float32)])
    asked = [content(i) for i in rng.permutation(n)[: rng.integers(1, n + 1)]]
    twin, store = MemoryStore(), LocalStore(tmp_path, sqlite_database)
    key = StoreKey(ONE.project_id, hashlib.sha256(repr((seed, n, scale)).encode()).hexdigest())
    for each in (twin, store):
        each.put(key, [content(i) for i in range(n)], rows)
    a, b = (each.search(key, asked, queries, k, metric=metric) for each in (store, twin))
    np.testing.assert_allclose(a.values, b.values, rtol=1e-5, atol=1e-6 * scale)
    for positions in a.positions:
        held = [p for p in positions.tolist() if p >= 0]
        assert len(set(held)) == len(held)


@pytest.fixture
def indexed(tmp_path: Path, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> SegmentStore:
    """A store that makes an index of a thousand rows, as it otherwise would of many more."""
    monkeypatch.setattr(derived, "INDEX_ROWS", 1000)
    monkeypatch.setattr(derived, "WORTH_MAKING_PAIRS", 1_000_000)
    return SegmentStore(LocalFiles(tmp_path / "segments"), sqlite_database, derived_root=tmp_path / "derived")


def clustered(n: int, *, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((20, 16))[rng.integers(20, size=n)] * 3 + rng.standard_normal((n, 16))).astype(
        np.float32
    )


@Metrics
def test_many_questions_to_many_rows_go_to_an_index_that_says_so(
    indexed: SegmentStore, tmp_path: Path, metric: Metric
) -> None:
    rows = clustered(4000)
    rows[5] = np.nan
    hashes = filled(indexed, rows, batch=1500)
    order = np.random.default_rng(1).permutation(4000)
    asked = [hashes[i] for i in order]
    few = indexed.search(ONE, asked, rows[:10], 8, metric=metric)
    assert (few.exact, few.index) == (True, "flat")
    many = indexed.search(ONE, asked, rows[:1000], 8, metric=metric)
    assert not many.exact
    assert many.index.startswith("ivf")
    flat = SegmentStore(indexed.files, indexed._database).search(ONE, asked, rows[:1000], 8, metric=metric)
    same = [len(set(a) & set(b)) / 8 for a, b in zip(many.positions.tolist(), flat.positions.tolist(), strict=True)]
    assert np.mean(same) > 0.98
    assert (many.positions[5] == -1).all()
    assert 5 not in order[many.positions[many.positions >= 0]]
    agree = many.positions == flat.positions
    np.testing.assert_array_equal(many.values[agree], flat.values[agree])
    # Once it is there, few questions go to it as well; deleted, it is made again.
    assert not indexed.search(ONE, asked[::-1], rows[:10], 8, metric=metric).exact
    (made,) = (tmp_path / "derived").rglob("*.ivf")
    made.unlink()
    assert indexed.search(ONE, asked, rows[:10], 8, metric=metric).exact
    # Another set of images is another index: no row outside of it is ever named.
    part = [hashes[i] for i in range(0, 4000, 2)]
    half = indexed.search(ONE, part, rows[:1000], 8, metric=metric)
    assert not half.exact
    assert half.positions.max() < 2000
    assert set(half.positions[0, :1]) == {0}
    indexed.forget_derived(ONE.project_id, horizon=0)
    assert list((tmp_path / "derived").rglob("*.ivf"))
    indexed.forget_derived(ONE.project_id, horizon=2**40)
    assert not list((tmp_path / "derived").rglob("*.ivf"))
