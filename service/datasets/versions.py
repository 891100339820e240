"""A dataset made from a sealed one: its rows, less what is removed, under new classes where relabelled. No I/O."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.core.errors import InvalidRequest
from service.datasets.errors import OneClass
from service.datasets.layouts import clean_label
from service.datasets.manifest import Manifest
from service.datasets.names import Split

_HASH = re.compile(r"[0-9a-f]{64}")
_NAMED_IN_ERRORS = 5
_CLASSES_LISTED = 100


@dataclass(frozen=True, slots=True)
class Changes:
    """What to take from the parent's images and what to call them; an image is named by path or by content hash."""

    remove: tuple[str, ...] = ()
    relabel: Mapping[str, str] = field(default_factory=dict)


class KnownRow(NamedTuple):
    """One row of a manifest under its class's name."""

    content_hash: bytes
    label: str
    split: Split
    path: str
    width: int
    height: int


def known_rows(manifest: Manifest, /) -> Iterator[KnownRow]:
    for row in manifest.rows():
        yield KnownRow(row.content_hash, manifest.classes[row.label], row.split, row.path, row.width, row.height)


def edited(parent: Manifest, changes: Changes, /) -> list[KnownRow]:
    """The parent's rows after `changes`.

    A content hash means every row of that image. A path means the rows under it, and must name one image.

    Raises:
        InvalidRequest: An image that the parent does not hold, a path of several images, one named twice, a class
            name that cannot be stored.
    """
    labels = _clean_labels(changes.relabel)
    numbers = _row_numbers(parent, {*changes.remove, *labels})
    gone = {number for name in changes.remove for number in numbers[name]}
    new_label: dict[int, str] = {}
    for name, label in labels.items():
        for number in numbers[name]:
            if number in gone:
                raise InvalidRequest(f"'{name}' cannot be both removed and relabelled.")
            if new_label.setdefault(number, label) != label:
                raise InvalidRequest(f"'{name}' is given two classes, '{new_label[number]}' and '{label}'.")
    return [
        row._replace(label=new_label.get(number, row.label))
        for number, row in enumerate(known_rows(parent))
        if number not in gone
    ]


def check(parent: Manifest, changes: Changes, /, *, adds: bool) -> None:
    """What can be said of `changes` before any image is read.

    Raises:
        InvalidRequest: as `edited`; or nothing would be left.
        OneClass: One class would be left, and nothing is added.
    """
    rows = edited(parent, changes)
    if adds:
        return
    if not rows:
        raise InvalidRequest("The changes remove every image: keep some, or add others.")
    classes = {row.label for row in rows}
    if len(classes) == 1:
        raise OneClass(f"The changes leave one class, '{classes.pop()}'")


def difference(parent: Manifest, made: Manifest, /) -> dict[str, Any]:
    """Images, counted by content and split, that `made` has and `parent` has not, and so on."""
    before = {(row.content_hash, row.split): row.label for row in known_rows(parent)}
    after = {(row.content_hash, row.split): row.label for row in known_rows(made)}
    both = before.keys() & after.keys()
    return {
        "added": len(after) - len(both),
        "removed": len(before) - len(both),
        "relabelled": sum(before[image] != after[image] for image in both),
        "new_classes": sorted(set(made.classes) - set(parent.classes))[:_CLASSES_LISTED],
        "lost_classes": sorted(set(parent.classes) - set(made.classes))[:_CLASSES_LISTED],
    }


def _clean_labels(relabel: Mapping[str, str], /) -> dict[str, str]:
    labels = {name: clean_label(label) for name, label in relabel.items()}
    bad = [name for name, label in labels.items() if label is None]
    if bad:
        raise InvalidRequest(
            f"No usable class name for {_listed(bad)}: it must not be empty, unprintable or longer than 200 characters."
        )
    return {name: label for name, label in labels.items() if label is not None}


def _row_numbers(parent: Manifest, names: set[str], /) -> dict[str, list[int]]:
    """Which rows each name means."""
    wanted = {_normal(name): name for name in names}
    found: dict[str, list[int]] = {name: [] for name in names}
    images: dict[str, set[bytes]] = {}
    for number, row in enumerate(parent.rows()):
        for key in (row.content_hash.hex(), row.path):
            if key in wanted:
                found[wanted[key]].append(number)
                images.setdefault(wanted[key], set()).add(row.content_hash)
    unknown = sorted(name for name, rows in found.items() if not rows)
    if unknown:
        raise InvalidRequest(
            f"The dataset holds no image {_listed(unknown)}: name images by the path or the content hash that they "
            "have in the dataset (a copy that was left out stands under the path of the image that was kept)."
        )
    several = sorted(name for name, hashes in images.items() if len(hashes) > 1)
    if several:
        raise InvalidRequest(f"{_listed(several)} names several images: name them by content hash.")
    return found


def _normal(name: str, /) -> str:
    return name.lower() if _HASH.fullmatch(name.lower()) else unicodedata.normalize("NFC", name)


def _listed(names: list[str], /) -> str:
    shown = ", ".join(f"'{name[:200]}'" for name in names[:_NAMED_IN_ERRORS])
    more = len(names) - _NAMED_IN_ERRORS
    return f"{shown} (and {more:,} more)" if more > 0 else shown
