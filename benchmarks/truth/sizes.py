"""Parameters, without the head, of the published models whose architecture timm or torchvision has.

python -m benchmarks.truth.sizes > service/recommendations/data/sizes.csv

Nothing is fetched: architectures are built without memory for their weights.
"""

import csv
import sys

import torch
from torch import nn

from service.recommendations.published import published
from zoo.libraries import timm


def main() -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("model", "params"))
    for name in sorted({known.model for known in published()}):
        found = _params(name)
        if found is not None:
            writer.writerow((name, found))


def _params(name: str) -> int | None:
    architecture = name.partition(".")[0]
    with torch.device("meta"):
        if timm().is_model(architecture):
            return _count(timm().create_model(architecture, num_classes=0))
        from torchvision import models  # importable once timm is

        if architecture not in models.list_models(module=models):
            return None
        module = models.get_model(architecture, weights=None)
    return _count(module) - _count(module.fc if hasattr(module, "fc") else module.classifier) - _auxiliary(module)


def _auxiliary(module: nn.Module) -> int:
    return sum(_count(child) for name, child in module.named_children() if name.lower().startswith("aux"))


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


if __name__ == "__main__":
    main()
