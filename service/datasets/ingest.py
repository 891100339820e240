"""A dataset from its source to a sealed manifest: every image is read, hashed, decoded once and stored by content."""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from service.blobs.store import BlobStore, Staging
from service.datasets.archives import MemberDamagedError, MemberTooLargeError, Source
from service.datasets.errors import TooManyClasses
from service.datasets.findings import Findings, Origin
from service.datasets.images import Decoder, ImageFacts, UnreadableImageError, quiet_pillow
from service.datasets.layouts import Layout, Place, Plan
from service.datasets.limits import Limits, Meter
from service.datasets.manifest import Manifest
from service.datasets.report import Report
from service.datasets.shards import shard_images
from service.datasets.sources import open_source
from service.datasets.surveys import MIN_CLASSES, survey
from service.datasets.versions import KnownRow

_REPORT_EVERY = 50


@dataclass(frozen=True, slots=True)
class IngestResult:
    manifest: Manifest
    report: Report


@dataclass(frozen=True, slots=True)
class _Item:
    path: str
    places: tuple[Place, ...]
    data: bytes
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Checked:
    content_hash: bytes
    facts: ImageFacts | None  # None where the image was known before


def ingest(
    source_path: Path,
    /,
    *,
    store: BlobStore,
    project: str,
    limits: Limits | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    threads: int | None = None,
    onto: Sequence[KnownRow] = (),
) -> IngestResult:
    """Read an archive, a Parquet file or a folder in place; store its images; say what it is.

    With rows `onto` which it is added, the result is of both together, and their images are not decoded again.

    Raises a leaf of DatasetRefused, or Cancelled; the store then holds nothing more than before. Call it from one
    thread of a process at a time: warnings are silenced while it runs.
    """
    limits = limits or Limits()
    workers = threads or min(32, (os.cpu_count() or 1) + 4)  # they also wait for the disk
    with open_source(source_path, limits) as source, store.staging(project) as staging, quiet_pillow():
        meter = Meter(limits, archive_bytes=source.size, cancelled=cancelled)
        surveyed = survey(source, meter, min_classes=1 if onto else MIN_CLASSES)
        meter.rewind()
        plan = surveyed.plan
        total = None if plan.layout == "parquet" else len(plan.places)
        findings = Findings()
        findings.known(onto)
        # Rows are counted apart from the bytes of the shards that hold them, or both would count once too often.
        rows_meter = Meter(limits, archive_bytes=source.size, cancelled=cancelled)
        items = (
            _shard_rows(source, plan, staging.directory, meter, rows_meter, findings)
            if plan.layout == "parquet"
            else _images(source, plan, meter, limits)
        )
        done = 0
        with closing(_checked(items, staging, limits, workers, findings)) as outcomes:
            for item, outcome in outcomes:
                if isinstance(outcome, _Checked):
                    if outcome.facts is None:
                        findings.known_image(item.path, item.places, outcome.content_hash)
                    else:
                        findings.image(item.path, item.places, outcome.content_hash, outcome.facts)
                else:
                    findings.problem(item.path, outcome)
                done += 1
                if done % _REPORT_EVERY == 0:
                    meter.check_cancelled()
                    progress(done, total)
        meter.check_cancelled()
        origin = Origin(source.format, plan.layout, plan.unlabelled, plan.problems, surveyed.other_files, plan.notes)
        manifest, report = findings.conclude(origin)
        if len(manifest.classes) > limits.max_classes:
            raise TooManyClasses(f"It has {len(manifest.classes):,} classes; the limit is {limits.max_classes:,}")
        staging.publish({row.content_hash.hex() for row in manifest.rows()})
        progress(done, total)
    return IngestResult(manifest, report)


def rebuilt(rows: Sequence[KnownRow], layout: Layout, /) -> IngestResult:
    """A version to which no archive adds anything. Raises NothingReadable or OneClass, as `ingest` does."""
    findings = Findings()
    findings.known(rows)
    manifest, report = findings.conclude(Origin("version", layout, (), (), 0, ()))
    return IngestResult(manifest, report)


def _images(source: Source, plan: Plan, meter: Meter, limits: Limits, /) -> Iterator[_Item]:
    for member in source.stream(plan.places.__contains__, meter):
        path = member.entry.path
        try:
            yield _Item(path, plan.places[path], member.read(max_bytes=limits.max_image_bytes))
        except (MemberDamagedError, MemberTooLargeError) as error:
            yield _Item(path, plan.places[path], b"", str(error))


def _shard_rows(
    source: Source, plan: Plan, scratch: Path, meter: Meter, rows_meter: Meter, findings: Findings, /
) -> Iterator[_Item]:
    for member in source.stream(frozenset(plan.shards).__contains__, meter):
        for row in shard_images(member, scratch, rows_meter):
            if row.label is None:
                findings.unlabelled(row.name)
            else:
                yield _Item(row.name, (Place(row.label, row.split),), row.data, row.problem)


def _checked(
    items: Iterable[_Item], staging: Staging, limits: Limits, workers: int, findings: Findings, /
) -> Generator[tuple[_Item, _Checked | str], None, None]:
    """In the order of `items`. Few images are in flight at once, so memory does not grow with the dataset."""
    decoder = Decoder(max_pixels=limits.max_image_pixels)
    waiting: deque[tuple[_Item, Future[_Checked | str]]] = deque()
    in_flight = 0

    def check(item: _Item, /) -> _Checked | str:
        if item.problem:
            return item.problem
        if findings.holds_known:
            content_hash = hashlib.sha256(item.data).digest()
            if findings.knows(content_hash):
                return _Checked(content_hash, None)
        try:
            facts = decoder.check(item.data, name=item.path)
        except UnreadableImageError as error:
            return str(error)
        return _Checked(bytes.fromhex(staging.put(item.data).sha256), facts)

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(check, item)))
                in_flight += len(item.data)
                while waiting and (len(waiting) > 4 * workers or in_flight > limits.max_in_flight_bytes):
                    first, future = waiting.popleft()
                    in_flight -= len(first.data)
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
