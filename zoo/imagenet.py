"""Published top-1 accuracies on ImageNet-1k of registry entries: facts, each with its source."""

import csv
from collections.abc import Mapping
from functools import cache
from importlib import resources


@cache
def imagenet_top1() -> Mapping[str, float]:
    """By the registry's name; of torchvision's models that no registry has, by torchvision's."""
    text = resources.files("zoo").joinpath("data", "imagenet.csv").read_text(encoding="utf-8")
    return {row["name"]: float(row["top1"]) for row in csv.DictReader(text.splitlines())}
