"""Where each image's label and split stand: in its folders, in a CSV beside it, or in the row of a Parquet file."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from service.datasets.errors import AmbiguousLayout, NoLabels
from service.datasets.names import Split, split_named

Layout = Literal["folders", "csv", "parquet", "texts"]

MAX_LABEL_CHARACTERS = 200
_BAD = frozenset({"Cc", "Cs"})  # control characters and lone surrogates


@dataclass(frozen=True, slots=True)
class Place:
    """What the layout says of one image."""

    label: str
    split: Split


@dataclass(frozen=True, slots=True)
class Problem:
    """One file or row that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    layout: Layout
    places: dict[str, tuple[Place, ...]]  # by path; an image that a CSV lists twice has two
    problems: tuple[Problem, ...] = ()
    unlabelled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()  # Parquet files, whose rows say the rest


def clean_label(raw: str, /) -> str | None:
    """A class name as it is stored: NFC, trimmed; None where it is empty, too long or unprintable."""
    label = unicodedata.normalize("NFC", raw.strip())
    if not label or len(label) > MAX_LABEL_CHARACTERS or any(unicodedata.category(c) in _BAD for c in label):
        return None
    return label


def folder_plan(paths: Iterable[str], /) -> Plan:
    """Labels from folders: `[enclosing/]*[split/]class/…/image`, or `class/split/image`.

    Folders that enclose everything are taken off. Every top folder is then a split, or every top folder is a class:
    a mixture is refused, because 'train' is a class of vehicles too and a guess would be silently wrong.
    Without splits every image is of 'train', the split that rankings use.
    """
    every = tuple(paths)
    names = {path.rpartition("/")[0] for path in every}  # far fewer than images
    folders = {name: name.split("/") if name else [] for name in names}
    depth = _enclosing_depth(folders.values())
    inner = {name: parts[depth:] for name, parts in folders.items()}
    tops = {parts[0] for parts in inner.values() if parts}
    named = {top for top in tops if split_named(top)}
    with_subfolders = {parts[0] for parts in inner.values() if len(parts) > 1}
    if named and named == tops:
        if not with_subfolders:
            raise NoLabels("The folders of the splits hold images and no class folders")
        return _plan(every, inner, split_at=0, class_at=1)
    if named & with_subfolders:
        raise AmbiguousLayout(
            f"Beside the folder of a split, '{min(named & with_subfolders)}', stands another, '{min(tops - named)}'"
        )
    seconds = {parts[1] for parts in inner.values() if len(parts) > 1}
    if seconds and all(split_named(second) for second in seconds):
        if direct := min((parts[0] for parts in inner.values() if len(parts) == 1), default=None):
            raise AmbiguousLayout(f"Classes hold folders of splits, and '{direct}' holds images directly")
        return _plan(every, inner, split_at=1, class_at=0)
    return _plan(every, inner, split_at=None, class_at=0)


def _enclosing_depth(folders: Iterable[list[str]], /) -> int:
    """How many leading folders hold every image that lies in any folder, and are neither a split nor the class."""
    inside = [parts for parts in folders if parts]
    depth = 0
    while inside:
        first = inside[0][depth]
        deeper = [parts for parts in inside if len(parts) > depth + 1]
        if split_named(first) or not deeper or any(parts[depth] != first for parts in inside):
            break
        inside = deeper
        depth += 1
    return depth


def _plan(paths: Iterable[str], inner: dict[str, list[str]], /, *, split_at: int | None, class_at: int) -> Plan:
    place_of = {name: _place(parts, split_at, class_at) for name, parts in inner.items()}
    shared = {place: (place,) for place in place_of.values() if place}
    places: dict[str, tuple[Place, ...]] = {}
    unlabelled = []
    for path in paths:
        place = place_of[path.rpartition("/")[0]]
        if place is None:
            unlabelled.append(path)
        else:
            places[path] = shared[place]
    if not places:
        raise NoLabels("No image lies in a folder that names its class")
    return Plan("folders", places, unlabelled=tuple(unlabelled))


def _place(parts: list[str], split_at: int | None, class_at: int, /) -> Place | None:
    if len(parts) <= max(class_at, split_at or 0):
        return None
    split = "train" if split_at is None else split_named(parts[split_at])
    label = clean_label(parts[class_at])
    return Place(label, split) if label and split else None
