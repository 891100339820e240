"""Whether stated errors are true: real features split into two disjoint halves, many times.

For each estimator: the share of splits in which the difference of the two halves' values over sqrt(se1^2 + se2^2) lies
within 1.645 (90 % if the errors are right). For each pair of models of a dataset: P(A beats B) stated on one half, from
paired blocks, against who wins on the other half, in five bins.

    python -m benchmarks.estimators_uncertainty FOLDER [--splits 20] [--names logme lda] [--stratified] [--references]

FOLDER holds `<model>__<dataset>.npz` with arrays `features` [N, D], `labels` [N] and, where the model has a classifier,
`probs` [N, Cs]; the rows of a dataset in the same order for every model. A model's features of the first other dataset
are its reference set, or those of each other one in turn.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from estimators.catalog import SPECS, Direction
from estimators.compare import prob_better
from estimators.evidence import Evidence
from estimators.moments import ClassMoments
from estimators.panel import evaluate
from estimators.score import Score

NAMES = (
    *("logme", "h_score", "lda", "gbc", "transrate", "ped_logme", "ped_lda", "ped_gbc", "frechet"),
    *("knn", "linear_probe", "leep", "nce", "proxy_a_distance"),
)
Halves = tuple[Score, Score]


def load(path: Path) -> dict[str, Tensor]:
    arrays = np.load(path)
    found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    return found | {"features": found["features"].float(), "labels": found["labels"].long()}


def halves(labels: Tensor, split: int, *, stratified: bool) -> tuple[Tensor, Tensor]:
    """Two halves at random: class shares are drawn as well, unless every other image of each class is taken."""
    generator = torch.Generator().manual_seed(split)
    order = torch.randperm(len(labels), generator=generator)
    if not stratified:
        return order[: len(order) // 2], order[len(order) // 2 :]
    order = order[torch.argsort(labels[order], stable=True)]
    both = order[0::2], order[1::2]
    first, second = (half[torch.randperm(len(half), generator=generator)] for half in both)
    return first, second


def scores(data: dict[str, Tensor], rows: Tensor, reference: Tensor, names: list[str]) -> dict[str, Score]:
    evidence = Evidence(
        labels=data["labels"][rows],
        features=data["features"][rows],
        source_probs=data["probs"][rows] if "probs" in data else None,
        reference_moments=ClassMoments.from_features(reference, torch.zeros(len(reference), dtype=torch.int64)),
        reference_features=reference,
    )
    return {k: v.score for k, v in evaluate(evidence, names).items() if v.score is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--names", nargs="+", default=list(NAMES), choices=sorted(SPECS))
    parser.add_argument("--stratified", action="store_true", help="halves with equal parts of every class")
    parser.add_argument("--references", action="store_true", help="every other dataset as the reference, in turn")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[tuple[str, str, str, int], dict[str, Halves]] = defaultdict(dict)
    paths = sorted(arguments.folder.glob("*__*.npz"))
    for path in paths:
        model, _, dataset = path.stem.partition("__")
        others = [p for p in paths if p != path and p.stem.startswith(f"{model}__")]
        if not others:
            parser.error(f"{path.stem} is the only dataset of its model: another one serves as its reference set")
        data = load(path)
        for other in others if arguments.references else others[:1]:
            reference, against = load(other)["features"], other.stem.partition("__")[2]
            for split in range(arguments.splits):
                rows = halves(data["labels"], split, stratified=arguments.stratified)
                first, second = (scores(data, half, reference, arguments.names) for half in rows)
                for name in set(first) & set(second):
                    found[(name, dataset, against, split)][model] = (first[name], second[name])
        print(f"{path.stem}: {tuple(data['features'].shape)} done", flush=True)
    for name in arguments.names:
        report(name, [pairs for key, pairs in found.items() if key[0] == name])


def report(name: str, found: list[dict[str, Halves]]) -> None:
    ratios = [
        (first.value - second.value) / math.hypot(first.stderr, second.stderr)
        for pairs in found
        for first, second in pairs.values()
        if first.stderr and second.stderr
    ]
    if not ratios:
        print(f"{name:16s} states no error")
        return
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    better = 1 if SPECS[name].direction is Direction.HIGHER_IS_BETTER else -1
    for pairs in found:
        for a, b in combinations(sorted(pairs), 2):
            for here, there in ((0, 1), (1, 0)):
                stated = prob_better(pairs[a][here], pairs[b][here], direction=SPECS[name].direction)
                won = better * pairs[a][there].value > better * pairs[b][there].value
                # each pair counts once from either side, so that no bin hangs on the order of names
                bins[min(int(stated * 5), 4)].append((stated, won))
                bins[min(int((1 - stated) * 5), 4)].append((1 - stated, not won))
    inside = float(np.mean(np.abs(ratios) < 1.645))
    spread = float(np.sqrt(np.mean(np.square(ratios))))
    cells = "  ".join(
        f"{np.mean([s for s, _ in bins[k]]):.2f}->{np.mean([w for _, w in bins[k]]):.2f} ({len(bins[k]) // 2})"
        for k in sorted(bins)
    )
    print(f"{name:16s} within 1.645: {inside:.3f} of {len(ratios)}, rms ratio {spread:.2f}; stated->observed {cells}")


if __name__ == "__main__":
    main()
