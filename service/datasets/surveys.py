"""What a source holds and where its labels stand, found without decoding an image."""

from collections import Counter
from dataclasses import dataclass, replace

from service.datasets.archives import Contents, Source, contents
from service.datasets.errors import AmbiguousLayout, EmptyArchive, NoImages, NoLabels, OneClass, TooManyClasses
from service.datasets.label_files import SUFFIXES as CSV_SUFFIXES
from service.datasets.label_files import csv_plan
from service.datasets.layouts import Plan, Problem, folder_plan
from service.datasets.limits import Meter
from service.datasets.names import IMAGE_SUFFIXES, UNREAD_IMAGE_SUFFIXES, suffix

MIN_CLASSES = 2
_SHARD_SUFFIX = "parquet"


@dataclass(frozen=True, slots=True)
class Survey:
    plan: Plan
    files: int
    unpacked_bytes: int
    other_files: int  # neither images nor what holds their labels


def survey(source: Source, meter: Meter, /, *, min_classes: int = MIN_CLASSES) -> Survey:
    """Walk the whole source and decide on its layout; refuse what no layout fits."""
    found = contents(source, meter)
    return planned(source, found, meter, min_classes=min_classes)


def planned(source: Source, found: Contents, meter: Meter, /, *, min_classes: int = MIN_CLASSES) -> Survey:
    unpacked_bytes = meter.declared_bytes
    if not found.paths:
        raise EmptyArchive("It holds no files")
    by_suffix: dict[str, list[str]] = {}
    for path in found.paths:
        by_suffix.setdefault(suffix(path), []).append(path)

    def of(suffixes: frozenset[str]) -> list[str]:
        return [path for kind, paths in by_suffix.items() if kind in suffixes for path in paths]

    images, unread, lists = of(IMAGE_SUFFIXES), of(UNREAD_IMAGE_SUFFIXES), of(CSV_SUFFIXES)
    shards = by_suffix.get(_SHARD_SUFFIX, [])
    if not images and not shards:
        kinds = ", ".join(kind or "no suffix" for kind, _ in Counter(map(suffix, found.paths)).most_common(3))
        raise NoImages(f"It holds {len(found.paths):,} files and no image that is read (suffixes: {kinds})")
    plan = _plan(source, images, lists, shards, meter)
    if plan.layout != "parquet":
        _check_classes(plan, meter, min_classes)
    used = len(plan.shards) if plan.layout == "parquet" else len(images) + len(unread)
    if plan.layout == "csv":
        used += len(lists)
    if plan.layout != "parquet":
        problems = (Problem(path, f"is a .{suffix(path)} file, which is not read") for path in unread)
        plan = replace(plan, problems=(*problems, *plan.problems))
    return Survey(plan, len(found.paths), unpacked_bytes, len(found.paths) - used + found.litter)


def _plan(source: Source, images: list[str], lists: list[str], shards: list[str], meter: Meter, /) -> Plan:
    if images and lists:
        meter.rewind()
        plan = csv_plan(source, lists, images, meter)
        if plan is not None:
            return plan
    if not shards:
        return folder_plan(images)
    whole = Plan("parquet", {}, shards=tuple(shards))
    if not images:
        return whole
    try:
        plan = folder_plan(images)
    except (NoLabels, AmbiguousLayout):
        plan = whole
    # A picture for the title page beside the shards is no dataset of its own.
    if len({place.label for places in plan.places.values() for place in places}) < 2:
        return replace(whole, notes=(f"{len(images):,} images beside the Parquet files were not used.",))
    return replace(plan, notes=(*plan.notes, "Parquet files beside the images were not used."))


def _check_classes(plan: Plan, meter: Meter, min_classes: int, /) -> None:
    classes = {place.label for places in plan.places.values() for place in places}
    if len(classes) < min_classes:
        raise OneClass(f"All images are of one class, '{min(classes)}'")
    if len(classes) > meter.limits.max_classes:
        raise TooManyClasses(f"It has {len(classes):,} classes; the limit is {meter.limits.max_classes:,}")
