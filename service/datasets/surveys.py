"""What a source holds and where its labels stand, found without decoding an image."""

from collections import Counter
from dataclasses import dataclass

from service.datasets.archives import Contents, Source, contents
from service.datasets.errors import EmptyArchive, NoImages, OneClass
from service.datasets.layouts import Plan, Problem, folder_plan
from service.datasets.limits import Meter
from service.datasets.names import IMAGE_SUFFIXES, UNREAD_IMAGE_SUFFIXES, suffix


@dataclass(frozen=True, slots=True)
class Survey:
    contents: Contents
    plan: Plan
    other_files: int


def survey(source: Source, meter: Meter, /, *, max_walk_bytes: int | None = None) -> Survey:
    found = contents(source, meter, max_walk_bytes=max_walk_bytes)
    if not found.paths:
        raise EmptyArchive("It holds no files")
    images = [path for path in found.paths if suffix(path) in IMAGE_SUFFIXES]
    unread = [path for path in found.paths if suffix(path) in UNREAD_IMAGE_SUFFIXES]
    if not images and found.complete:
        kinds = Counter(suffix(path) or "no suffix" for path in found.paths).most_common(3)
        raise NoImages(f"It holds {len(found.paths):,} files and no image: {', '.join(kind for kind, _ in kinds)}")
    plan = folder_plan(images)
    classes = {place.label for places in plan.places.values() for place in places}
    if len(classes) < 2 and found.complete:
        raise OneClass(f"All images are of one class, '{min(classes)}'")
    others = len(found.paths) - len(images) - len(unread) + found.litter
    problems = tuple(Problem(path, f"is a .{suffix(path)} file, which is not read") for path in unread)
    plan = Plan(plan.layout, plan.places, (*problems, *plan.problems), plan.unlabelled, plan.notes)
    return Survey(found, plan, others)
