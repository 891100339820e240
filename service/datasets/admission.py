"""The cheap check before an upload is accepted: structure only, no image is decoded and nothing is written."""

from dataclasses import dataclass
from pathlib import Path

from service.datasets.archives import contents
from service.datasets.layouts import Layout
from service.datasets.limits import Limits, Meter
from service.datasets.names import Split
from service.datasets.sources import open_source
from service.datasets.surveys import MIN_CLASSES, planned


@dataclass(frozen=True, slots=True)
class Admission:
    """What an archive seems to hold. None where only the worker can tell."""

    source_format: str
    layout: Layout | None
    files: int
    images: int | None
    classes: int | None
    splits: tuple[Split, ...] | None
    unpacked_bytes: int
    complete: bool  # False where a compressed tar is too long to be inflated twice: the worker checks the rest


def admit_archive(path: Path, limits: Limits | None = None, /, *, min_classes: int = MIN_CLASSES) -> Admission:
    """Raises a leaf of DatasetRefused. Takes what `ingest` takes."""
    limits = limits or Limits()
    with open_source(path, limits) as source:
        meter = Meter(limits, archive_bytes=source.size, cancelled=lambda: False)
        found = contents(source, meter, max_walk_bytes=limits.max_inspect_bytes)
        if not found.complete:
            return Admission(
                source.format, None, len(found.paths), None, None, None, meter.declared_bytes, complete=False
            )
        surveyed = planned(source, found, meter, min_classes=min_classes)
        plan = surveyed.plan
        if plan.layout != "parquet":
            places = {place for every in plan.places.values() for place in every}
            classes, splits = len({p.label for p in places}), {p.split for p in places}
            return Admission(
                source.format,
                plan.layout,
                surveyed.files,
                len(plan.places),
                classes,
                tuple(split for split in ("train", "validation", "test") if split in splits),
                surveyed.unpacked_bytes,
                complete=True,
            )
        images = summary = None
        if source.format == "parquet":
            from service.datasets.shards import summarise  # pyarrow takes longer to load than the API to start

            summary = summarise(path, min_classes=min_classes)
            images = summary.rows
        return Admission(
            source.format,
            "parquet",
            surveyed.files,
            images,
            len(summary.classes) if summary and summary.classes else None,
            None,
            surveyed.unpacked_bytes,
            complete=True,
        )
