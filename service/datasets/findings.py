"""From checked images to the manifest's rows and the report: what is a duplicate, a conflict, a leak.

- The same image twice in one class and split is one row: a copy would be its own nearest neighbour in every
  leave-one-out estimate. Copies are counted and listed.
- The same image under two classes is a conflict: neither label can be trusted, so all its rows are left out.
- The same image in two splits is a leak: both rows stay, for they never meet in one estimate, and the report warns.
"""

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

from service.datasets.errors import NothingReadable, OneClass
from service.datasets.images import ImageFacts
from service.datasets.layouts import Layout, Place, Problem
from service.datasets.manifest import Manifest, Row, build_manifest
from service.datasets.names import Split
from service.datasets.report import SHOWN, Balance, ClassCount, Conflict, Extent, Group, Listing, Report
from service.datasets.versions import KnownRow

_SPLIT_ORDER: tuple[Split, ...] = ("train", "validation", "test")
_UNBALANCED = 0.1
_PATHS_SHOWN = 10


class _Seen(NamedTuple):
    content_hash: bytes
    label: str
    split: Split
    path: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What the survey knew before any image was decoded."""

    source_format: str
    layout: Layout
    unlabelled: tuple[str, ...]
    problems: tuple[Problem, ...]
    other_files: int
    notes: tuple[str, ...]


class Findings:
    """Collects the outcome of every image; `conclude` turns it into a manifest and a report."""

    __slots__ = ("_animated", "_formats", "_known", "_modes", "_problems", "_seen", "_unlabelled")

    def __init__(self) -> None:
        self._seen: list[_Seen] = []
        self._known: dict[bytes, tuple[int, int]] = {}
        self._problems: list[Problem] = []
        self._unlabelled: list[str] = []
        self._formats: Counter[str] = Counter()
        self._modes: Counter[str] = Counter()
        self._animated = 0

    def image(self, path: str, places: Iterable[Place], content_hash: bytes, facts: ImageFacts, /) -> None:
        self._formats[facts.format] += 1
        self._modes[facts.mode] += 1
        self._animated += facts.animated
        for place in places:
            self._seen.append(_Seen(content_hash, place.label, place.split, path, facts.width, facts.height))

    def known(self, rows: Iterable[KnownRow], /) -> None:
        """Rows of a sealed dataset: their images were checked when it was taken in."""
        for row in rows:
            self._known[row.content_hash] = (row.width, row.height)
            self._seen.append(_Seen(*row))

    @property
    def holds_known(self) -> bool:
        return bool(self._known)

    def knows(self, content_hash: bytes, /) -> bool:
        return content_hash in self._known

    def known_image(self, path: str, places: Iterable[Place], content_hash: bytes, /) -> None:
        """An image that came again."""
        for place in places:
            self._seen.append(_Seen(content_hash, place.label, place.split, path, *self._known[content_hash]))

    def problem(self, path: str, reason: str, /) -> None:
        self._problems.append(Problem(path, reason))

    def unlabelled(self, path: str, /) -> None:
        self._unlabelled.append(path)

    def conclude(self, origin: Origin, /) -> tuple[Manifest, Report]:
        """Raises NothingReadable or OneClass where what remains cannot be ranked on."""
        problems = [*origin.problems, *self._problems]
        texts = origin.layout == "texts"
        what = "text" if texts else "image"
        if not self._seen:
            first = f"; the first, '{problems[0].name}', {problems[0].reason}" if problems else ""
            raise NothingReadable(f"None of its {what}s can be used: {len(problems):,} were tried{first}")
        kept, duplicates, copies, conflicts, leaks = self._sorted_out()
        classes = tuple(sorted({seen.label for seen in kept}))
        if not classes:
            raise NothingReadable(f"Every {what} stands under more than one class")
        if len(classes) == 1:
            every = {seen.label for seen in self._seen}
            why = "" if len(every) == 1 else f": the {what}s of the others conflict"
            raise OneClass(f"All usable {what}s are of one class, '{classes[0]}'{why}")
        number = {name: index for index, name in enumerate(classes)}
        manifest = build_manifest(
            (Row(s.content_hash, s.split, number[s.label], s.path, s.width, s.height) for s in kept), classes
        )
        counts = Counter((seen.label, seen.split) for seen in kept)
        balance = _balance(classes, counts)
        report = Report(
            source_format=origin.source_format,
            layout=origin.layout,
            images=len(manifest),
            splits={split: sum(n for (_, s), n in counts.items() if s == split) for split in manifest.splits},
            classes=tuple(
                ClassCount(name, {split: counts[name, split] for split in manifest.splits}) for name in classes
            ),
            balance=balance,
            width=None if texts else _extent([seen.width for seen in kept]),
            height=None if texts else _extent([seen.height for seen in kept]),
            characters=_extent([seen.width for seen in kept]) if texts else None,
            # A manifest does not keep them, and known images are not opened again to find out.
            formats=None if self._known or texts else dict(sorted(self._formats.items())),
            modes=None if self._known or texts else dict(sorted(self._modes.items())),
            unreadable=Listing.of(problems),
            unlabelled=Listing.of([*origin.unlabelled, *self._unlabelled]),
            duplicates=duplicates,
            duplicate_copies=copies,
            conflicts=conflicts,
            leaks=leaks,
            other_files=origin.other_files,
            notes=(*origin.notes, *self._notes(classes, counts, balance, conflicts.total, leaks.total, what=what)),
        )
        return manifest, report

    def _sorted_out(
        self,
    ) -> tuple[list[_Seen], Listing[Group], int, Listing[Conflict], Listing[Group]]:
        kept: list[_Seen] = []
        duplicates: list[Group] = []
        conflicts: list[Conflict] = []
        leaks: list[Group] = []
        totals: Counter[str] = Counter()
        # A CSV may name one file twice with one label: the same fact said twice is no second copy.
        ordered = sorted(set(self._seen))
        for content_hash, same in groupby(ordered, key=attrgetter("content_hash")):
            group = list(same)
            paths = tuple(sorted({seen.path for seen in group}))[:_PATHS_SHOWN]
            labels = tuple(sorted({seen.label for seen in group}))
            if len(labels) > 1:
                totals["conflicts"] += 1
                if len(conflicts) < SHOWN:
                    conflicts.append(Conflict(content_hash.hex(), labels, paths))
                continue
            first_of_split = {seen.split: seen for seen in reversed(group)}
            kept.extend(first_of_split.values())
            if copies := len(group) - len(first_of_split):
                totals["duplicates"] += 1
                totals["copies"] += copies
                if len(duplicates) < SHOWN:
                    duplicates.append(Group(content_hash.hex(), paths))
            if len(first_of_split) > 1:
                totals["leaks"] += 1
                if len(leaks) < SHOWN:
                    leaks.append(Group(content_hash.hex(), paths))
        return (
            kept,
            Listing(tuple(duplicates), totals["duplicates"]),
            totals["copies"],
            Listing(tuple(conflicts), totals["conflicts"]),
            Listing(tuple(leaks), totals["leaks"]),
        )

    def _notes(
        self,
        classes: tuple[str, ...],
        counts: Counter[tuple[str, Split]],
        balance: Balance,
        conflicts: int,
        leaks: int,
        /,
        *,
        what: str,
    ) -> list[str]:
        notes = []
        where = "the training split" if balance.split else f"all {what}s"
        alone = [name for name in classes if sum(counts[name, split] for split in _of(balance)) == 1]
        absent = [name for name in classes if not any(counts[name, split] for split in _of(balance))]
        if alone:
            notes.append(f"{_names(alone)}: one {what} only in {where}, so nothing about its spread can be measured.")
        if absent:
            notes.append(f"{_names(absent)}: no {what} in {where}; rankings leave it out.")
        if 0 < balance.ratio < _UNBALANCED:
            notes.append(
                f"Unbalanced: classes hold from {balance.smallest:,} to {balance.largest:,} {what}s in {where}."
            )
        if conflicts:
            notes.append(f"{conflicts:,} {what}s stand under more than one class and were left out.")
        if leaks:
            notes.append(
                f"{leaks:,} {what}s stand in more than one split: accuracy measured on the second is too good."
            )
        folded = sorted(classes, key=lambda name: (name.casefold(), name))
        clashes = [f"{a} / {b}" for a, b in pairwise(folded) if a.casefold() == b.casefold()]
        if clashes:
            notes.append(f"{_names(clashes)}: class names that differ in case only are kept apart.")
        if self._animated:
            notes.append(f"{self._animated:,} images have several frames: the first one is used.")
        return notes


def _balance(classes: tuple[str, ...], counts: Counter[tuple[str, Split]], /) -> Balance:
    split: Split | None = "train" if any(s == "train" for _, s in counts) else None
    used = _SPLIT_ORDER if split is None else (split,)
    sizes = [sum(counts[name, s] for s in used) for name in classes]
    return Balance(split, min(sizes), max(sizes), min(sizes) / max(sizes))


def _of(balance: Balance, /) -> tuple[Split, ...]:
    return _SPLIT_ORDER if balance.split is None else (balance.split,)


def _extent(pixels: list[int], /) -> Extent:
    return Extent(min(pixels), statistics.median_low(pixels), max(pixels))


def _names(names: list[str], /) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5:,} more"
