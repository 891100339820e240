"""float16 segments: what they hold, what they refuse, and that they stand beside float32 ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.core.db import Database
from service.embeddings import repository
from service.embeddings.files import LocalFiles
from service.embeddings.protocol import Rows
from service.embeddings.segment import in_half
from service.embeddings.store import SegmentStore
from tests.helpers.embeddings import ONE, content, rows_for, same_bits

HASHES = [content(n) for n in range(30)]
NORMAL = np.random.default_rng(0).standard_normal((30, 64)).astype(np.float32)


def stored(database: Database) -> list[str]:
    with database.read() as session:
        return [info.storage for info in repository.active_segments(session, ONE)]


def test_a_float16_row_is_the_nearest_float16_of_each_number(tmp_path: Path, sqlite_database: Database) -> None:
    store = SegmentStore(LocalFiles(tmp_path), sqlite_database, storage="float16")
    store.put(ONE, HASHES, NORMAL)
    assert stored(sqlite_database) == ["float16"]
    assert same_bits(store.get(ONE, HASHES), NORMAL.astype(np.float16).astype(np.float32))
    assert same_bits(store.get(ONE, HASHES[::-3]), NORMAL[::-3].astype(np.float16).astype(np.float32))
    files = sum(path.stat().st_size for path in tmp_path.rglob("*.faiss"))
    assert files < 0.51 * NORMAL.nbytes + 100


@pytest.mark.parametrize("odd", [7e4, -1e30, np.inf, np.nan])
def test_a_segment_with_one_number_beyond_float16_stays_in_float32(
    tmp_path: Path, sqlite_database: Database, odd: float
) -> None:
    rows = NORMAL.copy()
    rows[7, 3] = odd
    store = SegmentStore(LocalFiles(tmp_path), sqlite_database, storage="float16")
    store.put(ONE, HASHES, rows)
    assert stored(sqlite_database) == ["float32"]
    assert same_bits(store.get(ONE, HASHES), rows)


def test_rows_too_small_for_float16_stay_in_float32() -> None:
    assert in_half(NORMAL * np.float32(1e-6)) is None
    assert in_half(np.zeros((2, 3), np.float32)) is not None


@given(arrays(np.float32, (3, 5), elements=st.floats(width=32, allow_nan=True, allow_infinity=True)))
def test_what_is_held_in_float16_differs_by_its_rounding_at_most(rows: Rows) -> None:
    halves = in_half(rows)
    if halves is not None:
        wide = rows.astype(np.float64)
        lost = np.linalg.norm(wide - halves, axis=1)
        assert (lost <= 2.0**-11 * np.linalg.norm(wide, axis=1) * (1 + 1e-6)).all()


def test_segments_of_both_kinds_answer_together_and_merge_apart(tmp_path: Path, sqlite_database: Database) -> None:
    from service.embeddings import upkeep

    hashes, rows = HASHES, rows_for(HASHES)
    for number, storage in enumerate(("float32", "float32", "float16", "float16", "float16", "float32")):
        part = slice(5 * number, 5 * number + 5)
        SegmentStore(LocalFiles(tmp_path), sqlite_database, storage=storage).put(ONE, hashes[part], rows[part])
    store = SegmentStore(LocalFiles(tmp_path), sqlite_database)
    before = store.get(ONE, hashes)
    exact = np.r_[0:10, 25:30]
    assert same_bits(before[exact], rows[exact])
    np.testing.assert_allclose(before, rows, rtol=1e-3)
    upkeep.compact(store, sqlite_database, ONE.project_id, lambda done, total: None)
    assert stored(sqlite_database) == ["float32", "float16", "float32"]
    assert same_bits(store.get(ONE, hashes), before)
