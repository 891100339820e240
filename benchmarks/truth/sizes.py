"""Parameters, without the head, of the published models whose architecture timm or torchvision has.

python -m benchmarks.truth.sizes > models.csv && mv models.csv service/recommendations/data/models.csv

Nothing is fetched: architectures are built without memory for their weights. Which weights a published name stands for
is kept as the file has it: of names without a tag, timm's entry of the same file that timm 0.6.13 loaded by that name.
"""

import csv
import sys

import torch
from torch import nn

from service.recommendations.published import known_models, published
from zoo.libraries import timm

# What a name says of its training and not of its architecture.
_TRAINING = ("_in22ft1k", "_in22k", "_in21k", "_22kto1k", "_22k", "_hnf", "_miil", "_sam", "_bit_distilled")


def main() -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("model", "params", "weights"))
    for name in sorted({known.model for known in published()}):
        params, weights = _params(name), known_models()[name].weights if name in known_models() else None
        if params is not None or weights is not None:
            writer.writerow((name, params or "", weights or ""))


def _params(name: str) -> int | None:
    architecture = name.partition(".")[0]
    for ending in _TRAINING:
        architecture = architecture.removesuffix(ending)
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
