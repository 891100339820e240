"""Published fine-tuned accuracies that ship with the package: facts, each with its source."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Known:
    """One accuracy. Those of one `pool` and dataset were measured alike, and only they compare."""

    pool: str
    dataset: str
    model: str
    """The registry's name where the weights are surely its own, else as published. Of names without a tag, that is the
    entry of the same file that timm 0.6.13 loaded by the name."""
    accuracy: float
    source: str


@cache
def sizes() -> dict[str, int]:
    """Parameters without the head of those published models whose architecture is known."""
    text = files(__package__).joinpath("data", "sizes.csv").read_text(encoding="utf-8")
    return {row["model"]: int(row["params"]) for row in csv.DictReader(text.splitlines())}


@cache
def published() -> tuple[Known, ...]:
    text = files(__package__).joinpath("data", "published.csv").read_text(encoding="utf-8")
    return tuple(
        Known(row["benchmark"], row["dataset"], row["model"], float(row["accuracy"]), row["source"])
        for row in csv.DictReader(text.splitlines())
    )
