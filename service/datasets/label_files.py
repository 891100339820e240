"""Labels from a CSV beside the images.

A CSV (comma, semicolon or tab; UTF-8) is a list of labels where its first row names a path column and a label column,
or, without such a row, where it has two or three columns and the first cell is a file of the dataset. Any other CSV is
left alone and named in the report. A path is looked for beside the CSV first, then from the root of the dataset.
"""

import csv
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from typing import cast

from service.datasets.archives import Member, MemberDamagedError, MemberTooLargeError, Source
from service.datasets.errors import BadManifest, PathTraversal, TooManyEntries
from service.datasets.layouts import Place, Plan, Problem, clean_label
from service.datasets.limits import Meter
from service.datasets.names import Split, checked_path, split_named, split_of_shard

SUFFIXES = frozenset({"csv", "tsv"})
_PATH_COLUMNS = ("path", "file_name", "filename", "file", "filepath", "image_path", "image", "img")
_LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "labels")
_SPLIT_COLUMNS = ("split", "subset", "set", "partition")
_DELIMITERS = ",;\t"
_SPOOL_BYTES = 8 << 20
# `csv` reads a quoted field over any number of lines; pieces this long run into its own limit on a field instead.
_LINE_CHARACTERS = 1 << 20


@dataclass(frozen=True, slots=True)
class _Columns:
    path: int
    label: int
    split: int | None
    header: bool


@dataclass(slots=True)
class _Reading:
    """What the files said so far."""

    places: dict[str, list[Place]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    rows: int = 0


def csv_plan(source: Source, files: Collection[str], images: Collection[str], meter: Meter, /) -> Plan | None:
    """None where no file is a list of labels. `images` are the paths of the dataset's images."""
    reading = _Reading()
    used: list[str] = []
    notes: list[str] = []
    known = frozenset(images)
    for member in source.stream(frozenset(files).__contains__, meter):
        name = member.entry.path
        if _read_file(member, name, known, reading, meter):
            used.append(name)
        else:
            notes.append(f"'{name}' is no list of labels and was not used.")
    if not used:
        return None
    if not reading.places:
        first = f": {reading.problems[0].name} {reading.problems[0].reason}" if reading.problems else ""
        raise BadManifest(f"None of its {reading.rows:,} rows gives an image its label{first}", where=used[0])
    names = ", ".join(f"'{name}'" for name in sorted(used)[:5])
    return Plan(
        "csv",
        {path: tuple(places) for path, places in reading.places.items()},
        problems=tuple(reading.problems),
        unlabelled=tuple(sorted(known - reading.places.keys())),
        notes=(f"Labels are those of {names}.", *notes),
    )


def _read_file(member: Member, name: str, images: frozenset[str], reading: _Reading, meter: Meter, /) -> bool:
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        try:
            for chunk in member.chunks(max_bytes=meter.limits.max_manifest_bytes):
                spool.write(chunk)
        except (MemberDamagedError, MemberTooLargeError) as error:
            raise BadManifest(f"The CSV {error}", where=name) from error
        spool.seek(0)
        with TextIOWrapper(cast("tempfile._TemporaryFileWrapper[bytes]", spool), "utf-8-sig", newline="") as text:
            first = text.readline(_LINE_CHARACTERS) if _is_text(text, name) else ""
            delimiter = max(_DELIMITERS, key=first.count)
            text.seek(0)
            lines = iter(lambda: text.readline(_LINE_CHARACTERS), "")
            try:
                return _read_rows(csv.reader(lines, delimiter=delimiter), name, images, reading, meter)
            except (csv.Error, UnicodeDecodeError) as error:
                raise BadManifest("The CSV cannot be read as UTF-8 text in columns", where=name) from error


def _is_text(text: TextIOWrapper, name: str, /) -> bool:
    try:
        text.readline(_LINE_CHARACTERS)
    except UnicodeDecodeError as error:
        raise BadManifest("The CSV is not UTF-8", where=name) from error
    text.seek(0)
    return True


def _read_rows(
    rows: Iterator[list[str]], name: str, images: frozenset[str], reading: _Reading, meter: Meter, /
) -> bool:
    folder = name.rpartition("/")[0]
    columns: _Columns | None = None
    for number, row in enumerate(rows, start=1):
        if not any(cell.strip() for cell in row):
            continue
        if columns is None:
            columns = _columns(row, lambda cell: _resolved(cell, folder, images) is not None)
            if columns is None:
                return False
            if columns.header:
                continue
        reading.rows += 1
        if reading.rows > meter.limits.max_entries:
            raise TooManyEntries(f"The CSV has more than {meter.limits.max_entries:,} rows", where=name)
        if reading.rows % 1000 == 0:
            meter.check_cancelled()
        _read_row(row, columns, f"{name}:{number}", name, images, reading)
    return columns is not None


def _columns(row: list[str], is_image: Callable[[str], bool], /) -> _Columns | None:
    names = [cell.strip().lower() for cell in row]

    def find(wanted: tuple[str, ...]) -> int | None:
        return next((names.index(name) for name in wanted if name in names), None)

    path, label = find(_PATH_COLUMNS), find(_LABEL_COLUMNS)
    if path is not None and label is not None:
        return _Columns(path, label, find(_SPLIT_COLUMNS), header=True)
    if len(row) in {2, 3} and is_image(row[0]):
        return _Columns(0, 1, 2 if len(row) == 3 else None, header=False)
    return None


def _read_row(
    row: list[str], columns: _Columns, at: str, name: str, images: frozenset[str], reading: _Reading, /
) -> None:
    needed = max(columns.path, columns.label, columns.split or 0)
    if len(row) <= needed:
        reading.problems.append(Problem(at, f"has {len(row)} columns instead of {needed + 1} or more"))
        return
    path = _resolved(row[columns.path], name.rpartition("/")[0], images)
    if path is None:
        reading.problems.append(Problem(at, f"names '{row[columns.path][:200]}', which is no image of the dataset"))
        return
    label = clean_label(row[columns.label])
    if label is None:
        reading.problems.append(Problem(at, "has no usable label (empty, longer than 200 characters, or unprintable)"))
        return
    said = row[columns.split].strip() if columns.split is not None else ""
    split = split_named(said) if said else _split_of(name, path)
    if split is None:
        reading.problems.append(Problem(at, f"names the split '{said[:40]}'; known are train, validation and test"))
        return
    place = Place(label, split)
    places = reading.places.setdefault(path, [])
    if place not in places:
        places.append(place)


def _split_of(csv_path: str, image_path: str, /) -> Split:
    folders = image_path.split("/")[:-1]
    named = split_of_shard(csv_path) or next((split for part in folders if (split := split_named(part))), None)
    return named or "train"


def _resolved(cell: str, folder: str, images: frozenset[str], /) -> str | None:
    raw = unicodedata.normalize("NFC", cell.strip()).replace("\\", "/")
    for candidate in (f"{folder}/{raw}" if folder else raw, raw):
        try:
            path = checked_path(candidate)
        except PathTraversal:
            return None
        if path in images:
            return path
    return None
