"""What keeps a store in order: many small segments become one, and files that no row needs go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from service.core.db import Database
from service.core.ids import new_id
from service.embeddings import repository
from service.embeddings.damage import owners_of, problem_of
from service.embeddings.errors import SegmentDamaged
from service.embeddings.files import Listed
from service.embeddings.model import SegmentInfo, SegmentNames, Storage, StoreKey
from service.embeddings.protocol import HASH_BYTES, Rows
from service.embeddings.segment import Segment, write_segment
from service.embeddings.store import SegmentStore

COMPACT_BYTES = 256 * 2**20  # merged in memory, so a merged segment is no larger
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Compacted:
    segments_before: int
    segments_after: int
    rows: int


@dataclass(frozen=True, slots=True)
class Damage:
    segment: SegmentInfo
    problem: str


def find_damage(store: SegmentStore, database: Database, project_id: str, progress: Progress, /) -> list[Damage]:
    """Reads every segment in use to its end and takes those out of use whose files are not what was registered.

    Their rows count as missing from then on. `progress` is called with bytes.
    """
    with database.read() as session:
        segments = [info for info in repository.all_segments(session, project_id) if info.state == "active"]
    owners = owners_of(segments)
    total, done, found = sum(info.bytes for info in segments), 0, []
    for info in segments:
        progress(done, total)
        problem = problem_of(store.files, info, owners)
        done += info.bytes
        if problem is not None:
            with database.write() as session:
                # Not damaged but collected or merged meanwhile, where it is not in use any more.
                if repository.retire_segments(session, [info.id], state="damaged"):
                    found.append(Damage(info, problem))
    progress(total, total)
    return found


def intact_hashes(store: SegmentStore, info: SegmentInfo, /) -> list[bytes] | None:
    """Of which images a segment holds rows, as far as its list of them is what was written."""
    about = store.files.digest(SegmentNames.of(info.key, info.id).hashes)
    if about is None or about.sha256 != info.hashes_sha256:
        return None
    return _hashes(Segment(store.files, info))


def compact(store: SegmentStore, database: Database, project_id: str, progress: Progress, /) -> Compacted:
    """Merges neighbouring small segments of each key. The old ones stay, out of use, for a grace period.

    Writers and readers may go on meanwhile: a reader that planned with the old segments finds their files until
    then, and a group of which another has taken a segment is left as it is.
    """
    with database.read() as session:
        segments = [info for info in repository.all_segments(session, project_id) if info.state == "active"]
    groups = _groups(segments)
    total = sum(map(len, groups))
    done, merged, rows = 0, 0, 0
    progress(done, total)
    for group in groups:
        if _merge(store, database, group):
            merged += len(group) - 1
            rows += sum(info.n_rows for info in group)
        done += len(group)
        progress(done, total)
    return Compacted(len(segments), len(segments) - merged, rows)


def _groups(segments: Sequence[SegmentInfo]) -> list[list[SegmentInfo]]:
    """Runs of neighbours in the order of answering, so that which row answers for a hash stays as it was."""
    by_key: dict[StoreKey, list[list[SegmentInfo]]] = {}
    for info in segments:
        runs = by_key.setdefault(info.key, [[]])
        if sum(one.bytes for one in runs[-1]) + info.bytes > COMPACT_BYTES or (
            runs[-1] and runs[-1][-1].storage != info.storage
        ):
            runs.append([])
        runs[-1].append(info)
    return [run for runs in by_key.values() for run in runs if len(run) > 1]


def _merge(store: SegmentStore, database: Database, group: Sequence[SegmentInfo]) -> bool:
    held: dict[bytes, tuple[int, int]] = {}
    try:
        opened = [Segment(store.files, info) for info in group]
        for number, segment in enumerate(opened):
            for position, value in enumerate(_hashes(segment)):
                held.setdefault(value, (number, position))
        hashes = sorted(held)
        rows = np.empty((len(hashes), group[0].dim), dtype=np.float32)
        places = np.array([held[value] for value in hashes])
        for number, segment in enumerate(opened):
            mine = np.flatnonzero(places[:, 0] == number)
            rows[mine] = segment.rows(places[mine, 1])
    except (FileNotFoundError, SegmentDamaged):
        return False  # collected meanwhile, or for `verify` to find
    return _replace(store, database, group, hashes, rows, storage=group[0].storage, keep_old=True)


def _replace(
    store: SegmentStore,
    database: Database,
    old: Sequence[SegmentInfo],
    hashes: Sequence[bytes],
    rows: Rows,
    /,
    *,
    storage: Storage,
    keep_old: bool,
) -> bool:
    """Puts one segment, or none, in the place of others: in one transaction, and only while all are in use."""
    key, replacement = old[0].key, new_id("seg")
    written = write_segment(store.files, key, replacement, hashes, rows, storage=storage) if hashes else None
    with database.write() as session:
        replaced = repository.retire_segments(session, [info.id for info in old], state="superseded")
        if not replaced:
            session.rollback()
        else:
            if written is not None:
                repository.add_segment(session, replacement, key, written, created_at=old[0].created_at)
            if not keep_old:
                repository.delete_segments(session, [info.id for info in old])
    if not replaced and written is not None:
        _delete_files(store, key, replacement)
    if replaced and not keep_old:
        for info in old:
            _delete_files(store, key, info.id)
    return replaced


def sweep(
    store: SegmentStore,
    database: Database,
    project_id: str,
    needed: Callable[[str], set[bytes]],
    /,
    *,
    horizon: float,
    stray_horizon: float,
) -> None:
    """Removes rows of segments that nobody needs, segments out of use, and files that no row names.

    `needed` names the content hashes to keep of an extractor. What was written after `horizon` stays; a file without
    a row may belong to a writer that is about to add one, so it stays until `stray_horizon` even in a purge.
    """
    files = {file.name: file for file in store.files.listed(project_id)}
    with database.read() as session:
        segments = repository.all_segments(session, project_id)
    for info in segments:
        if info.state == "active":
            _keep_needed(store, database, info, needed(info.key.extractor_id), files, horizon)
        elif info.superseded_at is not None and info.superseded_at.timestamp() <= horizon:
            with database.write() as session:
                repository.delete_segments(session, [info.id])
            _delete_files(store, info.key, info.id)
    with database.read() as session:
        named = repository.segment_ids(session, project_id)
    for file in files.values():
        if file.modified <= stray_horizon and file.name.rpartition("/")[2].partition(".")[0] not in named:
            store.files.delete(file.name)


def _keep_needed(
    store: SegmentStore,
    database: Database,
    info: SegmentInfo,
    needed: set[bytes],
    files: dict[str, Listed],
    horizon: float,
) -> None:
    file = files.get(SegmentNames.of(info.key, info.id).hashes)
    if file is None or file.modified > horizon:
        return
    try:
        segment = Segment(store.files, info)
        hashes = _hashes(segment)
        keep = [i for i, value in enumerate(hashes) if value in needed]
        if len(keep) == len(hashes):
            return
        rows = segment.rows(np.array(keep, dtype=np.int64)) if keep else np.empty((0, info.dim), np.float32)
    except (FileNotFoundError, SegmentDamaged):
        keep, hashes, rows = [], [], np.empty((0, info.dim), np.float32)  # of no use to anyone
    _replace(store, database, [info], [hashes[i] for i in keep], rows, storage=info.storage, keep_old=False)


def _hashes(segment: Segment) -> list[bytes]:
    data = segment.hashes.tobytes()
    return [data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES)]


def _delete_files(store: SegmentStore, key: StoreKey, segment_id: str) -> None:
    names = SegmentNames.of(key, segment_id)
    store.files.delete(names.vectors)
    store.files.delete(names.hashes)
