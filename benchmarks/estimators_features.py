"""Measure the feature-based and probability-based estimators: noise by width, and speed.

python -m benchmarks.estimators_features noise
python -m benchmarks.estimators_features speed
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from estimators.blocks import block_ids
from estimators.knn import knn
from estimators.leep import leep
from estimators.linear_probe import linear_probe
from estimators.mmd import mmd
from estimators.nce import nce
from estimators.nleep import nleep
from estimators.otdd import otdd
from estimators.parc import parc
from estimators.proxy_a_distance import proxy_a_distance
from estimators.score import Score
from estimators.sfda_published import sfda_published

WIDTHS = (64, 256, 1024, 4096)
Draw = Callable[[Tensor, Tensor, torch.Generator], Score]


def random_probs(n: int, generator: torch.Generator) -> Tensor:
    return torch.softmax(2 * torch.randn(n, 100, generator=generator), 1)


def like(rows: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(rows.shape, generator=generator)


NOISE: dict[str, Draw] = {
    "knn": lambda x, y, g: knn(x, y),
    "linear_probe": lambda x, y, g: linear_probe(x, y),
    "leep": lambda x, y, g: leep(random_probs(len(y), g), y),
    "nce": lambda x, y, g: nce(random_probs(len(y), g), y),
    "parc": lambda x, y, g: parc(x, y),
    "nleep": lambda x, y, g: nleep(x, y),
    "sfda_published": lambda x, y, g: sfda_published(x, y),
    "mmd": lambda x, y, g: mmd(x, like(x, g)),
    "proxy_a_distance": lambda x, y, g: proxy_a_distance(x, like(x, g)),
    "otdd": lambda x, y, g: otdd(x, y, like(x, g)),
}


def noise(seeds: int) -> None:
    for name, draw in NOISE.items():
        found = []
        for width in WIDTHS:
            values = []
            for seed in range(seeds):
                generator = torch.Generator().manual_seed(7919 * seed + width)
                rows = torch.randn(200, width, generator=generator)
                labels = torch.randint(0, 10, (200,), generator=generator)
                values.append(draw(rows, labels, generator).value)
            found.append((float(np.mean(values)), float(np.std(values, ddof=1)) / seeds**0.5))
        drift = max(abs(a - b) / max(np.hypot(s, t), 1e-12) for a, s in found for b, t in found)
        cells = "  ".join(f"{mean:8.4f} ({error:.4f})" for mean, error in found)
        print(f"{name:17s} {cells}  largest drift {drift:.1f} standard errors", flush=True)


def speed() -> None:
    def measured(name: str, call: Callable[[], object]) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        call()
        print(f"{name:40s} {time.perf_counter() - wall:7.2f} s wall, {time.process_time() - cpu:7.2f} s of processors")

    torch.manual_seed(0)
    x, y = torch.randn(5000, 2048), torch.randint(0, 10, (5000,))
    measured("sfda_published, N=5000 D=2048", lambda: sfda_published(x, y))
    rows, labels = torch.randn(10_000, 2048), torch.randint(0, 10, (10_000,))
    measured("float32 Gram product, N=10000 D=2048", lambda: rows @ rows.T)
    measured("knn", lambda: knn(rows, labels))
    measured("knn with ten blocks", lambda: knn(rows, labels, blocks=block_ids(labels)))
    measured("linear_probe", lambda: linear_probe(rows, labels))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["noise", "speed"])
    parser.add_argument("--repeats", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.what == "noise":
        noise(arguments.repeats)
    else:
        speed()


if __name__ == "__main__":
    main()
