"""The contract of every embedding store: the one on files with SQLite and with PostgreSQL, and its twin in memory."""

import hashlib
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.db import Database
from service.embeddings import repository
from service.embeddings.errors import EmbeddingsMissing, SegmentDamaged
from service.embeddings.files import LocalFiles, RemoteFiles
from service.embeddings.memory import MemoryStore
from service.embeddings.model import Kind, SegmentNames, StoreKey
from service.embeddings.protocol import HASH_BYTES, EmbeddingStore
from service.embeddings.segment import write_segment
from service.embeddings.store import LocalStore, SegmentStore
from service.keys.tables import DEFAULT_PROJECT
from tests.helpers.embeddings import DIM, ONE, content, rows_for, same_bits
from tests.helpers.service import ROOT

Opened = Callable[[], EmbeddingStore]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "s3"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    """Opens the same store anew, as another process would; the one in memory is its own only process."""
    match request.param:
        case "memory":
            store = MemoryStore()
            return lambda: store
        case "sqlite" | "postgresql":
            database: Database = request.getfixturevalue(f"{request.param}_database")
            return lambda: LocalStore(tmp_path / "segments", database)
        case _:
            url = request.getfixturevalue("s3").prefix()
            shared: Database = request.getfixturevalue("sqlite_database")
            machines = itertools.count()  # every one has a cache of its own, with room for a segment or two
            return lambda: SegmentStore(
                RemoteFiles(url, cache=tmp_path / f"machine {next(machines)}", cache_bytes=600), shared
            )


def test_missing_names_each_absent_hash_once_in_the_order_given(reopen: Opened) -> None:
    store = reopen()
    a, b, c, d = (content(n) for n in range(4))
    assert store.missing(ONE, []) == []
    assert store.missing(ONE, [c, a, c, b, a]) == [c, a, b]
    store.put(ONE, [b, c], rows_for([b, c]))
    assert store.missing(ONE, [d, c, a, b, d]) == [d, a]


def test_get_keeps_order_and_repeats_to_the_bit(reopen: Opened) -> None:
    store = reopen()
    hashes = [content(n) for n in range(20)]
    store.put(ONE, hashes[:7], rows_for(hashes[:7]))
    store.put(ONE, hashes[7:], rows_for(hashes[7:]))
    wanted = [hashes[i] for i in (19, 0, 7, 6, 0, 19, 3)]
    assert same_bits(store.get(ONE, wanted), rows_for(wanted))


def test_numbers_of_every_kind_come_back_to_the_bit(reopen: Opened) -> None:
    odd = np.array([[0.0, -0.0, np.inf, -np.inf, np.nan], [1e-45, 3.4e38, 1e-38, 1 / 3, -1]], dtype=np.float32)
    store = reopen()
    store.put(ONE, [content(0), content(1)], odd)
    assert same_bits(reopen().get(ONE, [content(0), content(1)]), odd)


def test_a_hash_given_twice_in_one_batch_keeps_its_first_row_and_shifts_no_other(reopen: Opened) -> None:
    store = reopen()
    a, b, c = (content(n) for n in range(3))
    batch = [b, a, b, c, a]
    rows = rows_for(batch)
    rows[2] = 99.0
    store.put(ONE, batch, rows)
    assert same_bits(store.get(ONE, [a, b, c]), rows_for([a, b, c]))


def test_putting_again_changes_nothing(reopen: Opened) -> None:
    store = reopen()
    hashes = [content(n) for n in range(6)]
    store.put(ONE, hashes[:4], rows_for(hashes[:4]))
    store.put(ONE, hashes, np.concatenate([np.zeros((4, DIM), np.float32), rows_for(hashes[4:])]))
    assert same_bits(store.get(ONE, hashes), rows_for(hashes))


def test_extractors_projects_and_kinds_share_hashes_and_nothing_else(reopen: Opened) -> None:
    store = reopen()
    keys = [
        StoreKey(project, extractor * 64, kind)
        for project in (DEFAULT_PROJECT, "other")
        for extractor in "ab"
        for kind in Kind
    ]
    hashes = [content(n) for n in range(9)]
    for start in (0, 3, 6):
        for key in keys:
            part = hashes[start : start + 3]
            store.put(key, part, rows_for(part, key=key) + (1000 if key.project_id == "other" else 0))
    fresh = reopen()
    for key in keys:
        expected = rows_for(hashes, key=key) + (1000 if key.project_id == "other" else 0)
        assert same_bits(fresh.get(key, hashes), expected)
    assert fresh.missing(StoreKey(DEFAULT_PROJECT, "c" * 64), hashes) == hashes


def test_a_store_opened_anew_finds_what_was_put_before_and_what_another_put_meanwhile(reopen: Opened) -> None:
    first, second = reopen(), reopen()
    a, b = [content(1)], [content(2)]
    first.put(ONE, a, rows_for(a))
    assert second.missing(ONE, a + b) == b
    second.put(ONE, b, rows_for(b))
    assert same_bits(first.get(ONE, b + a), rows_for(b + a))
    assert same_bits(reopen().get(ONE, a + b), rows_for(a + b))


def test_what_is_not_stored_is_an_error_and_never_another_row(reopen: Opened) -> None:
    store = reopen()
    with pytest.raises(EmbeddingsMissing, match="1 of 1"):
        store.get(ONE, [content(1)])
    store.put(ONE, [content(1)], rows_for([content(1)]))
    with pytest.raises(EmbeddingsMissing, match="2 of 3"):
        store.get(ONE, [content(0), content(1), content(2)])


@pytest.mark.parametrize("hashes", [[b"short"], [content(1), content(2)]])
def test_a_batch_that_does_not_hold_together_is_refused(reopen: Opened, hashes: list[bytes]) -> None:
    store = reopen()
    with pytest.raises(ValueError, match="hash"):
        store.put(ONE, hashes, np.zeros((1, DIM), np.float32))
    assert store.missing(ONE, [content(1), content(2)]) == [content(1), content(2)]


AWKWARD = [
    bytes(32),
    bytes(31) + b"\x01",
    b"\x01" + bytes(31),
    b"\x01" + bytes(30) + b"\x01",
    b"\x7f" + b"\xff" * 31,
    b"\x80" + bytes(31),
    b"\xff" * 32,
    b"\xff" * 31 + bytes(1),
    bytes(8) + b"\xff" * 24,
    b"\xff" * 8 + bytes(24),
]


def test_hashes_that_end_in_zero_bytes_or_are_all_ones_are_found(reopen: Opened) -> None:
    store = reopen()
    stored, absent = AWKWARD[::2], AWKWARD[1::2]
    store.put(ONE, stored, rows_for(stored))
    assert store.missing(ONE, AWKWARD) == absent
    assert same_bits(reopen().get(ONE, stored[::-1]), rows_for(stored[::-1]))


_hashes = st.lists(
    st.one_of(st.sampled_from(AWKWARD), st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES)), max_size=12
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(_hashes, min_size=1, max_size=4), asked=_hashes)
def test_it_behaves_as_its_twin_in_memory(tmp_path: Path, sqlite_database: Database, batches, asked) -> None:
    twin, store = MemoryStore(), LocalStore(tmp_path / "segments", sqlite_database)
    key = StoreKey(DEFAULT_PROJECT, hashlib.sha256(repr((batches, asked)).encode()).hexdigest())
    for batch in batches:
        twin.put(key, batch, rows_for(batch))
        store.put(key, batch, rows_for(batch))
    assert store.missing(key, asked) == twin.missing(key, asked)
    held = [value for batch in batches for value in batch]
    if held:
        assert same_bits(store.get(key, held), twin.get(key, held))


# What only files can suffer.


def test_a_file_that_no_row_names_is_harmless(sqlite_database: Database, tmp_path: Path) -> None:
    store = LocalStore(tmp_path, sqlite_database)
    a, b = [content(1)], [content(2)]
    store.put(ONE, a, rows_for(a))
    write_segment(LocalFiles(tmp_path), ONE, "seg_orphan", b, np.full((1, DIM), 7, np.float32), storage="float32")
    fresh = LocalStore(tmp_path, sqlite_database)
    assert fresh.missing(ONE, a + b) == b
    fresh.put(ONE, b, rows_for(b))
    assert same_bits(fresh.get(ONE, b + a), rows_for(b + a))


def test_a_writer_killed_before_its_rename_leaves_nothing_that_is_read(database: Database, tmp_path: Path) -> None:
    code = (
        "import os, sys; import numpy as np; import service.embeddings.files as s;"
        "from tests.contracts.test_embedding_store import *; from tests.helpers.databases import open_database;"
        "from service.schema import all_tables; all_tables();"
        "s.os.fsync = lambda handle: os.kill(os.getpid(), 9);"
        "hashes = [content(n) for n in range(4)];"
        "LocalStore(Path(sys.argv[2]), open_database(sys.argv[1])).put(ONE, hashes, rows_for(hashes))"
    )
    url = database.engine.url.render_as_string(hide_password=False)
    killed = subprocess.run([sys.executable, "-c", code, url, tmp_path], cwd=ROOT, timeout=60, check=False)
    assert killed.returncode == -9
    assert list(tmp_path.rglob("*.tmp"))
    store = LocalStore(tmp_path, database)
    hashes = [content(n) for n in range(4)]
    assert store.missing(ONE, hashes) == hashes
    store.put(ONE, hashes, rows_for(hashes))
    assert same_bits(store.get(ONE, hashes), rows_for(hashes))


def test_a_segment_cut_short_is_named_and_never_answers(sqlite_database: Database, tmp_path: Path) -> None:
    hashes = [content(n) for n in range(50)]
    LocalStore(tmp_path, sqlite_database).put(ONE, hashes, rows_for(hashes))
    with sqlite_database.read() as session:
        (info,) = repository.active_segments(session, ONE)
    names = SegmentNames.of(ONE, info.id)
    for file in (tmp_path / names.vectors, tmp_path / names.hashes):
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(SegmentDamaged, match=info.id):
            LocalStore(tmp_path, sqlite_database).get(ONE, hashes)
        file.write_bytes(whole)
    assert same_bits(LocalStore(tmp_path, sqlite_database).get(ONE, hashes), rows_for(hashes))


def test_a_reader_that_finds_a_collected_segment_gone_plans_once_more(
    sqlite_database: Database, tmp_path: Path
) -> None:
    a = [content(1)]
    reader = LocalStore(tmp_path, sqlite_database)
    reader.put(ONE, a, rows_for(a))
    with sqlite_database.write() as session:
        (info,) = repository.active_segments(session, ONE)
        repository.delete_segments(session, [info.id])
    assert reader.missing(ONE, a) == a
    with pytest.raises(EmbeddingsMissing):
        reader.get(ONE, a)
