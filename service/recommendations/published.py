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
    model: str  # the registry's name where the weights are surely its own, else as published
    accuracy: float
    source: str


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What is known of a published model: parameters without the head, and the registry's entry of its weights."""

    params: int | None
    weights: str | None


@cache
def known_models() -> dict[str, KnownModel]:
    text = files(__package__).joinpath("data", "models.csv").read_text(encoding="utf-8")
    return {
        row["model"]: KnownModel(int(row["params"]) if row["params"] else None, row["weights"] or None)
        for row in csv.DictReader(text.splitlines())
    }


@cache
def published() -> tuple[Known, ...]:
    text = files(__package__).joinpath("data", "published.csv").read_text(encoding="utf-8")
    return tuple(
        Known(row["benchmark"], row["dataset"], row["model"], float(row["accuracy"]), row["source"])
        for row in csv.DictReader(text.splitlines())
    )
