"""Whether stated errors are true: real features split into disjoint halves, many times.

For each estimator: the share of splits in which the difference of the two halves' values over sqrt(se1^2 + se2^2) lies
within 1.645 (90 % if the errors are right). For each pair of models of a dataset: P(A beats B) stated on one half, from
paired blocks, against who wins on the other half, in five bins.

    python -m benchmarks.estimators_uncertainty FOLDER [--splits 20] [--names logme lda]

FOLDER holds `<model>__<dataset>.npz` with arrays `features` [N, D] and `labels` [N], the rows of a dataset in the same
order for every model.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import torch

from estimators.blocks import block_ids
from estimators.catalog import SPECS
from estimators.compare import prob_better
from estimators.errors import EstimatorError
from estimators.evidence import Evidence
from estimators.panel import evaluate
from estimators.score import Score

NAMES = ("logme", "h_score", "lda", "gbc", "transrate", "ped_logme", "ped_lda")


def scores(rows: torch.Tensor, labels: torch.Tensor, names: list[str]) -> dict[str, Score]:
    background = (rows.double().mean(0), rows.double().std(0, correction=0))
    evidence = Evidence(labels=labels, features=rows, background=background, blocks=block_ids(labels))
    return {k: v.score for k, v in evaluate(evidence, names).items() if v.score is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--names", nargs="+", default=list(NAMES))
    parser.add_argument("--only", default="")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[tuple[str, str, int], dict[str, tuple[Score, Score]]] = defaultdict(dict)
    for path in sorted(p for p in arguments.folder.glob("*__*.npz") if arguments.only in p.stem):
        model, _, dataset = path.stem.partition("__")
        arrays = np.load(path)
        if "features" not in arrays.files or "labels" not in arrays.files:
            continue
        rows, labels = torch.from_numpy(arrays["features"]).float(), torch.from_numpy(arrays["labels"]).long()
        for split in range(arguments.splits):
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(split))
            halves = order[: len(order) // 2], order[len(order) // 2 :]
            try:
                first, second = (scores(rows[half], labels[half], arguments.names) for half in halves)
            except EstimatorError as error:
                print(f"{path.stem} split {split}: {error}")
                continue
            for name in set(first) & set(second):
                found[(name, dataset, split)][model] = (first[name], second[name])
        print(f"{path.stem}: {tuple(rows.shape)} done", flush=True)
    for name in arguments.names:
        report(name, {k: v for k, v in found.items() if k[0] == name})


def report(name: str, found: dict[tuple[str, str, int], dict[str, tuple[Score, Score]]]) -> None:
    ratios, bins = [], defaultdict(list)
    for pairs in found.values():
        for first, second in pairs.values():
            if first.stderr and second.stderr:
                ratios.append((first.value - second.value) / math.hypot(first.stderr, second.stderr))
        for a, b in combinations(sorted(pairs), 2):
            direction = SPECS[name].direction
            stated = prob_better(pairs[a][0], pairs[b][0], direction=direction)
            won = pairs[a][1].value > pairs[b][1].value
            # each pair counts once from either side, so that no bin hangs on the order of names
            bins[min(int(stated * 5), 4)].append((stated, float(won)))
            bins[min(int((1 - stated) * 5), 4)].append((1 - stated, float(not won)))
    if not ratios:
        print(f"{name:10s} nothing to report")
        return
    inside = float(np.mean(np.abs(ratios) < 1.645))
    spread = float(np.sqrt(np.mean(np.square(ratios))))
    cells = [
        f"{np.mean([s for s, _ in bins[k]]):.2f}->{np.mean([w for _, w in bins[k]]):.2f} ({len(bins[k])})"
        for k in range(5)
        if bins[k]
    ]
    print(f"{name:10s} within 1.645: {inside:.3f} of {len(ratios)}, rms ratio {spread:.2f}; stated->observed {cells}")


if __name__ == "__main__":
    main()
