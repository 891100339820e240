"""A dataset in shards is scored as it is in one piece, from moments that its shards left."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from estimators.catalog import SPECS
from service.compute.reference import ReferenceSet, WarmMoments
from service.compute.scoring import OF_MOMENTS, score_model
from service.compute.shards import Sharded, ShardMoments
from service.compute.warm import WarmFindings
from service.embeddings.memory import MemoryStore
from service.embeddings.model import StoreKey
from service.embeddings.protocol import Rows
from service.scoring.repository import StoredScore

KEY = StoreKey("default", "e" * 64)
BY_MOMENTS = [name for name, spec in SPECS.items() if spec.needs <= OF_MOMENTS]
RELATIVE = 1e-9


class Counted(MemoryStore):
    """Counts the rows that are read."""

    read = 0

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        self.read += len(hashes)
        return super().get(key, hashes)


class Drawn:
    """A dataset with a rare class, embedded."""

    def __init__(self, n: int, dim: int) -> None:
        rng = np.random.default_rng(n + dim)
        self.hashes = sorted(rng.bytes(32) for _ in range(n))
        self.labels = rng.integers(0, 4, n)
        self.labels[:12] = 9
        self.reference = ReferenceSet("f" * 64, sorted(rng.bytes(32) for _ in range(80)))
        self.store = Counted()
        centres = rng.normal(0, 0.7, (10, dim))
        rows = 3 + rng.normal(0, 1, (n, dim)) + centres[self.labels]
        self.store.put(KEY, self.hashes, rows.astype(np.float32))
        self.store.put(KEY, self.reference.hashes, rng.normal(3, 1.5, (80, dim)).astype(np.float32))

    def scored(self, names: Sequence[str], sharded: Sharded | None = None, left: ShardMoments | None = None):
        return score_model(
            names,
            self.hashes,
            self.labels,
            project_id=KEY.project_id,
            extractor_id=KEY.extractor_id,
            has_source_probs=False,
            store=self.store,
            reference=self.reference,
            warm=WarmMoments(),
            findings=WarmFindings(),
            merged=None if sharded is None or left is None else lambda: left.merged(KEY, sharded, self.store),
        )


def assert_same(one: list[StoredScore], other: list[StoredScore]) -> None:
    assert [score.estimator for score in one] == [score.estimator for score in other]
    for a, b in zip(one, other, strict=True):
        assert a.degenerate == b.degenerate, a.estimator
        assert a.value == pytest.approx(b.value, rel=RELATIVE), a.estimator
        assert a.stderr == pytest.approx(b.stderr, rel=1e-6), a.estimator


@pytest.mark.parametrize(("n", "dim"), [(900, 16), (900, 200), (300, 400)])
@pytest.mark.parametrize("n_shards", [2, 30])
def test_merged_moments_score_as_the_rows_do(tmp_path: Path, n: int, dim: int, n_shards: int) -> None:
    drawn, left = Drawn(n, dim), ShardMoments(tmp_path)
    sharded = Sharded.deal(drawn.hashes, drawn.labels, n_shards)
    assert sorted(np.concatenate(sharded.positions).tolist()) == list(range(n))
    for shard in range(n_shards):
        left.leave(KEY, sharded, shard, drawn.store)
    assert_same(drawn.scored(BY_MOMENTS, sharded, left), drawn.scored(BY_MOMENTS))


def test_what_needs_rows_is_computed_from_them_and_the_order_asked_for_is_kept(tmp_path: Path) -> None:
    drawn, names = Drawn(400, 16), ["knn", "logme", "lda", "gbc"]
    sharded = Sharded.deal(drawn.hashes, drawn.labels, 3)
    assert_same(drawn.scored(names, sharded, ShardMoments(tmp_path)), drawn.scored(names))


def test_no_row_is_read_where_all_moments_were_left(tmp_path: Path) -> None:
    drawn, left = Drawn(900, 16), ShardMoments(tmp_path)
    sharded = Sharded.deal(drawn.hashes, drawn.labels, 5)
    for shard in range(5):
        left.leave(KEY, sharded, shard, drawn.store)
    drawn.store.read = 0
    names = ["logme", "h_score", "gbc"]
    here = drawn.scored(names, sharded, left)
    assert drawn.store.read == 0
    torn, gone, *_ = sorted(tmp_path.rglob("*.npz"))
    torn.write_bytes(torn.read_bytes()[:500])
    gone.unlink()
    assert_same(drawn.scored(names, sharded, left), here)
    assert drawn.store.read == 2 * 180
    left.forget(KEY, sharded)
    assert not list(tmp_path.rglob("*.npz"))


def test_what_is_left_is_of_these_labels_and_this_model(tmp_path: Path) -> None:
    drawn, left = Drawn(900, 16), ShardMoments(tmp_path)
    others = drawn.labels.copy()
    others[5:300:7] = 2
    for labels in (drawn.labels, others):
        sharded = Sharded.deal(drawn.hashes, labels, 2)
        left.leave(KEY, sharded, 0, drawn.store)
    assert len(list(tmp_path.rglob("*.npz"))) == 2
    drawn.labels = others
    assert_same(drawn.scored(["logme"], sharded, left), drawn.scored(["logme"]))


def test_moments_that_are_more_than_the_rows_are_not_left(tmp_path: Path) -> None:
    drawn, left = Drawn(300, 400), ShardMoments(tmp_path)
    sharded = Sharded.deal(drawn.hashes, drawn.labels, 2)
    left.leave(KEY, sharded, 0, drawn.store)
    assert not list(tmp_path.rglob("*"))
