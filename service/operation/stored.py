"""What is kept: the database and its clock, the store, its segments, models' weights, the queue and who works on it."""

import errno
import random
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from service.core.db import Database, make_engine
from service.core.errors import ServiceError
from service.core.migrate import current_revision, head_revision, known_revisions
from service.core.settings import Settings
from service.embeddings import repository as embeddings
from service.embeddings.damage import owners_of, problem_of
from service.embeddings.files import Files, LocalFiles, open_files
from service.embeddings.model import SegmentInfo, SegmentNames
from service.jobs import repository as jobs
from service.keys import repository as keys
from service.operation import repository
from service.operation.checks import Check, ok, problem, warning

SAMPLE_BYTES = 256 * 2**20  # of segments read to their end; at least one is
PROBE_BYTES = 64 * 2**10
SHOWN = 3
DAMAGED = "`zooscout store verify` takes them out of use and embeds their rows again."


def open_patiently(settings: Settings, /) -> Database:
    """A database that is asked only for a short time, and that is not made where there is none."""
    return Database(make_engine(settings.database_url, busy_timeout_ms=3000, pool_size=2, statement_timeout_ms=10_000))


def nothing_yet(settings: Settings, /) -> bool:
    return settings.database.url is None and not Path(settings.database_url.removeprefix("sqlite:///")).exists()


def database(opened: Database, /) -> Check:
    shown = opened.engine.url.render_as_string(hide_password=True)
    began = time.monotonic()
    try:
        with opened.read() as session:
            repository.database_time(session)
        if opened.is_sqlite:
            with opened.write():  # takes the lock that writers need
                pass
    except SQLAlchemyError as error:
        first = next(iter(str(getattr(error, "orig", None) or error).splitlines()), "")
        return problem(
            "database",
            f"{shown} does not answer: {first}",
            do="Start it, or set ZOOSCOUT_DATABASE__URL to where it is; for SQLite, see to the data directory's disk.",
        )
    return ok("database", f"{shown} answers in {1000 * (time.monotonic() - began):.0f} ms")


def migration(opened: Database, /) -> Check:
    current, head = current_revision(opened), head_revision()
    if current == head:
        return ok("migration", f"at {head}, as this code is")
    said = f"the database is at {current or 'no migration'}, this code at {head}"
    if current is not None and current not in known_revisions():
        return problem("migration", said, do="Install the version of zooscout that migrated it, or restore a backup.")
    return problem("migration", said, do="zooscout db upgrade")


def clock(opened: Database, settings: Settings, /) -> Check:
    with opened.read() as session:
        repository.database_time(session)  # connects
        before = time.time()
        there = repository.database_time(session)
        after = time.time()
    ahead = (before + after) / 2 - there
    said = f"this machine is {abs(ahead):.2f} s {'ahead of' if ahead > 0 else 'behind'} the database"
    if abs(ahead) > settings.health.max_clock_skew_seconds:
        return problem("clock", said, do="Have both set their clocks by NTP (chronyc tracking, timedatectl).")
    return ok("clock", said)


def workers(opened: Database, /) -> Check:
    with opened.read() as session:
        alive, lost = jobs.workers(session), repository.lost_workers(session)
        due = repository.waiting(session)
    gone = "; ".join(f"{worker.id} was last seen {_ago(worker.seconds_ago)} ago" for worker in lost[:SHOWN])
    start = "Start one with `zooscout worker`, and see in its log why it ended."
    if alive:
        devices = ", ".join(sorted({worker.device for worker in alive}))
        note = f"; {gone}, without saying that it would go" if gone else ""
        return ok("workers", f"{len(alive)} seen within {jobs.ALIVE_SECONDS:.0f} s ({devices}){note}")
    if gone:
        return problem("workers", f"none is alive: {gone}, without saying that it would go", do=start)
    if due.tasks:
        return problem("workers", f"none, and {due.tasks} tasks wait for one", do="Start one: `zooscout worker`.")
    return warning(
        "workers", "none now; commands without --url do their own work", do="For a service: `zooscout worker`."
    )


def queue(opened: Database, settings: Settings, /) -> Check:
    health, quota = settings.health, settings.quotas.queued_tasks
    with opened.read() as session:
        due = repository.waiting(session)
        full = [
            project
            for project in (keys.project_ids(session) if quota is not None else ())
            if jobs.count_open_of(session, project) >= (quota or 0)
        ]
    said = f"{due.tasks} tasks are due" + (f", the oldest for {_ago(due.oldest_seconds)}" if due.tasks else "")
    more = "Start more workers, or wait; see `zooscout rankings ls` for what asks for them."
    if full:
        return problem(
            "queue",
            f"{said}; full for {', '.join(full[:SHOWN])} (ZOOSCOUT_QUOTAS__QUEUED_TASKS is {quota})",
            do=more,
        )
    if due.tasks > health.max_waiting_tasks:
        return problem("queue", f"{said}; more than {health.max_waiting_tasks} is called full", do=more)
    if due.oldest_seconds > health.max_waiting_seconds:
        return problem("queue", f"{said}; {_ago(health.max_waiting_seconds)} is called too long", do=more)
    return ok("queue", said)


def store(settings: Settings, /) -> Check:
    """A small file in each of the folders is written, read and removed."""
    places: list[tuple[str, Callable[[], Files]]] = [
        (str(root), lambda root=root: LocalFiles(root))  # type: ignore[misc]
        for root in (settings.blob_root, settings.upload_root, settings.manifest_root)
    ]
    places.append((settings.store.url or str(settings.segment_root), lambda: open_files(settings)))
    for place, opened in places:
        try:
            files = opened()
            _write_and_read(files)
        except (OSError, ServiceError) as error:
            said = getattr(error, "strerror", None) or str(error)
            full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
            room = "Make room: `zooscout store gc`, or a larger disk."
            return problem(
                "store",
                f"{place} cannot be written and read: {said}",
                do=room if full else "See that it is mounted for writing and that this user may write there.",
            )
    return ok("store", f"readable and writable: {len(places)} places")


def _write_and_read(files: Files) -> None:
    name, data = f"doctor-{uuid.uuid4().hex}", random.randbytes(PROBE_BYTES)  # noqa: S311
    written = files.scratch(name)
    try:
        written.write_bytes(data)
        files.publish(name, written)
        about = files.digest(name)
        if about is None or about.size != PROBE_BYTES:
            raise OSError(errno.EIO, "what was written there is not what is read")
    finally:
        written.unlink(missing_ok=True)
        files.delete(name)


def segments(opened: Database, settings: Settings, /) -> Check:
    """Sizes of all of them, and the bytes of a sample."""
    with opened.read() as session:
        projects = keys.project_ids(session)
        held = [
            info for project in projects for info in embeddings.all_segments(session, project) if info.state == "active"
        ]
    if not held:
        return ok("segments", "none yet")
    files = open_files(settings)
    sizes = {file.name: file.size for project in projects for file in files.listed(project)}
    bad = [f"{info.id} lacks bytes or a file" for info in held if not _has_size(info, sizes)]
    sample = _sample(held)
    owners = owners_of(held)
    bad += [f"{info.id}: {found}" for info in sample if (found := problem_of(files, info, owners)) is not None]
    if bad:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        return problem("segments", f"damaged: {'; '.join(bad[:SHOWN])}{more}", do=DAMAGED)
    return ok("segments", f"{len(held)} have their size; {len(sample)} of them were read to their end")


def _has_size(info: SegmentInfo, sizes: dict[str, int]) -> bool:
    names = SegmentNames.of(info.key, info.id)
    return sizes.get(names.vectors, 0) + sizes.get(names.hashes, 0) == info.bytes


def _sample(held: Sequence[SegmentInfo]) -> list[SegmentInfo]:
    chosen: list[SegmentInfo] = []
    total = 0
    for info in random.sample(held, len(held)):
        if chosen and total + info.bytes > SAMPLE_BYTES:
            continue
        chosen.append(info)
        total += info.bytes
    return chosen


def weights(opened: Database, /) -> Check:
    with opened.read() as session:
        held = repository.file_weights(session)
    gone = [f"{name} ({uri.removeprefix('file:')})" for name, uri in held if not _is_there(uri)]
    if gone:
        more = f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
        return problem(
            "weights",
            f"missing here: {', '.join(gone[:SHOWN])}{more}",
            do="Put the files back, or remove the models: `zooscout models rm NAME`.",
        )
    return ok("weights", f"{len(held)} models have their weights in files, all of them are there")


def _is_there(uri: str) -> bool:
    path = Path(uri.removeprefix("file:").removeprefix("//"))
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
