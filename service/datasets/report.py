"""What the service found in a dataset, for its owner: counts, sizes, and everything that was left out and why."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.datasets.layouts import Layout, Problem
from service.datasets.names import Split

SHOWN = 100

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The first items and how many there are in all: a report stays readable when everything is wrong."""

    shown: tuple[T, ...]
    total: int

    @classmethod
    def of(cls, items: Iterable[T], /) -> "Listing[T]":
        every = tuple(items)
        return cls(every[:SHOWN], len(every))


@dataclass(frozen=True, slots=True)
class ClassCount:
    name: str
    images: dict[Split, int]


@dataclass(frozen=True, slots=True)
class Balance:
    """Of the images that rankings use: the training split, or all where there is none."""

    split: Split | None
    smallest: int
    largest: int
    ratio: float  # smallest / largest: 1 is balanced, 0 is a class without an image


@dataclass(frozen=True, slots=True)
class Extent:
    """Pixels, as stored; of texts, characters."""

    smallest: int
    median: int
    largest: int


@dataclass(frozen=True, slots=True)
class Group:
    """One image under several names."""

    content_hash: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    content_hash: str
    labels: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    source_format: str
    layout: Layout
    images: int
    splits: dict[Split, int]
    classes: tuple[ClassCount, ...]
    balance: Balance
    width: Extent | None  # None: it holds texts
    height: Extent | None
    characters: Extent | None  # None: it holds images
    formats: dict[str, int] | None  # None for a version: its parent's images are not opened again
    modes: dict[str, int] | None
    unreadable: Listing[Problem]
    unlabelled: Listing[str]
    duplicates: Listing[Group]
    duplicate_copies: int
    conflicts: Listing[Conflict]
    leaks: Listing[Group]
    other_files: int
    notes: tuple[str, ...]
    version: int = 1

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
