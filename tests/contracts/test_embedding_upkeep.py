"""Merging and collecting, alone and beside processes that write and read."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from service.core.db import Database
from service.embeddings import repository, upkeep
from service.embeddings.files import Files, LocalFiles, RemoteFiles
from service.embeddings.model import Kind, StoreKey
from service.embeddings.store import SegmentStore
from tests.helpers.embeddings import DIM, ONE, content, rows_for, same_bits
from tests.helpers.service import ROOT

PROJECT = ONE.project_id
TWO = StoreKey(PROJECT, "2" * 64)
NEVER, EVERYTHING = 0.0, time.time() + 10**6


def quietly(_done: int, _total: int) -> None:
    pass


@pytest.fixture(params=["local", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    if request.param == "local":
        return LocalFiles(tmp_path / "segments")
    return RemoteFiles(request.getfixturevalue("s3").prefix(), cache=tmp_path / "cache", cache_bytes=2000)


@pytest.fixture
def store(files: Files, sqlite_database: Database) -> SegmentStore:
    return SegmentStore(files, sqlite_database)


def filled(store: SegmentStore, key: StoreKey = ONE, *, n: int = 40, batch: int = 4) -> list[bytes]:
    hashes = [content(i) for i in range(n)]
    for start in range(0, n, batch):
        store.put(key, hashes[start : start + batch], rows_for(hashes[start : start + batch], key=key))
    return hashes


def states(database: Database) -> dict[str, int]:
    with database.read() as session:
        held = [info.state for info in repository.all_segments(session, PROJECT)]
    return {state: held.count(state) for state in sorted(set(held))}


def sweep(store: SegmentStore, database: Database, needed: set[bytes], *, horizon: float) -> None:
    upkeep.sweep(store, database, PROJECT, lambda _extractor: needed, horizon=horizon, stray_horizon=horizon)


def test_small_segments_become_one_and_every_row_stays_to_the_bit(
    store: SegmentStore, sqlite_database: Database
) -> None:
    keys = (ONE, TWO, StoreKey(PROJECT, ONE.extractor_id, Kind.SOURCE_PROBS))
    for key in keys:
        hashes = filled(store, key)
    told: list[tuple[int, int]] = []
    result = upkeep.compact(store, sqlite_database, PROJECT, lambda done, total: told.append((done, total)))
    assert (result.segments_before, result.segments_after, result.rows) == (30, 3, 120)
    assert (told[0], told[-1]) == ((0, 30), (30, 30))
    assert states(sqlite_database) == {"active": 3, "superseded": 30}
    for key in keys:
        assert same_bits(store.get(key, hashes[::-1]), rows_for(hashes[::-1], key=key))
        assert store.missing(key, [*hashes, content(99)]) == [content(99)]
    again = upkeep.compact(store, sqlite_database, PROJECT, quietly)
    assert (again.segments_before, again.segments_after) == (3, 3)


def test_merged_segments_keep_their_files_for_a_grace_period(
    files: Files, store: SegmentStore, sqlite_database: Database
) -> None:
    hashes = filled(store)
    planned_before = store._locate(ONE, hashes)
    upkeep.compact(store, sqlite_database, PROJECT, quietly)
    assert same_bits(planned_before.read(), rows_for(hashes))
    sweep(store, sqlite_database, set(hashes), horizon=NEVER)
    assert len(files.listed(PROJECT)) == 22
    sweep(store, sqlite_database, set(hashes), horizon=EVERYTHING)
    assert len(files.listed(PROJECT)) == 2
    assert states(sqlite_database) == {"active": 1}
    assert same_bits(store.get(ONE, hashes), rows_for(hashes))


def test_where_two_segments_hold_an_image_the_first_answers_before_and_after(
    files: Files, store: SegmentStore, sqlite_database: Database
) -> None:
    """Two writers at once may store one image twice; which row counts must not change by merging."""
    from service.embeddings.segment import write_segment

    a, b, c = ([content(n)] for n in range(3))
    for number, hashes in enumerate((a + b, b + c, c + a)):
        written = write_segment(
            files, ONE, f"seg_{number}", hashes, np.full((2, DIM), number, np.float32), storage="float32"
        )
        with sqlite_database.write() as session:
            repository.add_segment(session, f"seg_{number}", ONE, written)
    before = store.get(ONE, a + b + c)
    assert before[:, 0].tolist() == [0, 0, 1]
    upkeep.compact(store, sqlite_database, PROJECT, quietly)
    assert same_bits(store.get(ONE, a + b + c), before)


def test_a_sweep_takes_rows_that_nobody_needs_and_files_that_no_row_names(
    files: Files, store: SegmentStore, sqlite_database: Database
) -> None:
    hashes = filled(store)
    stray = "/".join([PROJECT, "11", ONE.extractor_id, "seg_stray.features.faiss"])
    written = files.scratch(stray)
    written.write_bytes(b"left by a writer that was killed")
    files.publish(stray, written)
    keep = set(hashes[:6])
    sweep(store, sqlite_database, keep, horizon=NEVER)
    assert len(files.listed(PROJECT)) == 21
    sweep(store, sqlite_database, keep, horizon=EVERYTHING)
    assert store.missing(ONE, hashes) == hashes[6:]
    assert same_bits(store.get(ONE, hashes[:6]), rows_for(hashes[:6]))
    assert len(files.listed(PROJECT)) == 4
    held = b"".join((store.files.local(f.name, "")).read_bytes() for f in files.listed(PROJECT))
    assert all((value in held) == (value in keep) for value in hashes)


def test_what_is_being_merged_and_is_collected_meanwhile_is_left_alone(
    store: SegmentStore, sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = filled(store)
    write = upkeep.write_segment

    def collected_first(*args: object, **options: object) -> object:
        monkeypatch.setattr(upkeep, "write_segment", write)
        sweep(store, sqlite_database, set(hashes[4:]), horizon=EVERYTHING)
        return write(*args, **options)

    monkeypatch.setattr(upkeep, "write_segment", collected_first)
    upkeep.compact(store, sqlite_database, PROJECT, quietly)
    assert store.missing(ONE, hashes) == hashes[:4]
    assert same_bits(store.get(ONE, hashes[4:]), rows_for(hashes[4:]))
    assert len(store.files.listed(PROJECT)) == 18  # nothing of the merge that came too late


WORK = """
import random, sys, time
from pathlib import Path
from service.embeddings import upkeep
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.files import LocalFiles, RemoteFiles
from service.embeddings.store import SegmentStore
from service.schema import all_tables
from tests.helpers.databases import open_database
from tests.helpers.embeddings import ONE, content, rows_for, same_bits

all_tables()
role, url, where, cache, number, until = sys.argv[1:7]
files = LocalFiles(Path(where)) if "://" not in where else RemoteFiles(where, cache=Path(cache), cache_bytes=3000)
database = open_database(url)
store = SegmentStore(files, database)
rng = random.Random(number)
hashes = [content(n) for n in range(300)]
deadline = time.time() + float(until)
rounds = 0
# However busy the machine is, the writers have written most of it in the end.
while time.time() < deadline or (role == "write" and rounds < 20):
    some = [hashes[i] for i in rng.sample(range(300), 25)]
    match role:
        case "write":
            missing = store.missing(ONE, some)
            if missing:
                store.put(ONE, missing, rows_for(missing))
        case "read":
            held = [value for value in some if value not in set(store.missing(ONE, some))]
            if held:
                assert same_bits(store.get(ONE, held), rows_for(held))
                store.search(ONE, held, rows_for(held), 2, metric="l2")
        case "merge":
            upkeep.compact(store, database, ONE.project_id, lambda done, total: None)
        case "collect":
            # No grace period at all: what was merged goes at once, under the readers' hands. What a writer has just
            # written and not yet registered is what the other horizon is for.
            everything = set(hashes)
            now = time.time()
            upkeep.sweep(store, database, ONE.project_id, lambda _: everything, horizon=now, stray_horizon=now - 60)
    rounds += 1
print(rounds)
"""


@pytest.mark.parametrize("place", ["local", "s3"])
def test_writers_readers_a_merger_and_a_collector_at_once_lose_and_mix_up_nothing(
    place: str, database: Database, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    where = str(tmp_path / "segments") if place == "local" else request.getfixturevalue("s3").prefix()
    url = database.engine.url.render_as_string(hide_password=False)
    roles = ["write", "write", "read", "read", "merge", "collect"]
    children = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, role, url, where, str(tmp_path / f"cache {n}"), str(n), "4"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n, role in enumerate(roles)
    ]
    for role, child in zip(roles, children, strict=True):
        said, wrong = child.communicate(timeout=120)
        assert child.returncode == 0, f"{role}: {wrong}"
        assert int(said) >= 3, role
    files: Files = (
        LocalFiles(Path(where)) if place == "local" else RemoteFiles(where, cache=tmp_path / "cache", cache_bytes=10**6)
    )
    store = SegmentStore(files, database)
    hashes = [content(n) for n in range(300)]
    held = [value for value in hashes if value not in set(store.missing(ONE, hashes))]
    assert len(held) > 200
    assert same_bits(store.get(ONE, held), rows_for(held))
    assert upkeep.find_damage(store, database, PROJECT, quietly) == []
