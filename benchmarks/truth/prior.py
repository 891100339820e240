"""How well outcomes elsewhere foretell those on a dataset: the prior alone, on published accuracies.

python -m benchmarks.truth.prior --outcomes FILE --out prior.csv [--halves 20]      goes on where it stopped

SHiFT's pool: models with all thirteen VTAB sets that at least 286 models have (279 models); of each set in turn half of
the models are observed, and the other half is predicted. SFDA's pools: each dataset is left out whole. The agreement is
SciPy's default weightedtau(truth, prediction).
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.stats import weightedtau

from benchmarks.truth.agreement import Matrix
from service.recommendations.prior import predict

SHIFT = "shift_vtab_nlp"
SETS = (
    *("caltech101", "cifar100", "diabetic_retinopathy_detection", "dmlab", "dtd", "eurosat", "kitti"),
    *("oxford_iiit_pet", "patch_camelyon", "resisc45", "smallnorb", "sun397", "svhn_cropped"),
)
SFDA = ("sfda_supervised_cnn", "sfda_self_supervised")
COLUMNS = ("pool", "dataset", "half", "tau", "list_tau", "covered", "width")


def table(
    path: Path, benchmark: str, wanted: tuple[str, ...] | None = None, /
) -> tuple[tuple[str, ...], list[str], Matrix]:
    cells: dict[tuple[str, str], list[float]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["benchmark"] == benchmark:
                cells[row["dataset"], row["model"]].append(float(row["accuracy"]))
    datasets = wanted or tuple(sorted({d for d, _ in cells}))
    models = sorted({m for _, m in cells if all((d, m) in cells for d in datasets)})
    return datasets, models, np.array([[np.mean(cells[d, m]) for m in models] for d in datasets])


def plain_list(others: Matrix, /) -> Matrix:
    return ((others - others.mean(1, keepdims=True)) / others.std(1, keepdims=True)).mean(0)


def halves(path: Path, n: int, done: set[tuple[str, str, str]], /) -> Iterator[dict[str, object]]:
    datasets, models, accuracy = table(path, SHIFT, SETS)
    for half in range(n):
        rng = np.random.default_rng(half)
        for d, name in enumerate(datasets):
            dealt = rng.permutation(len(models))
            if (SHIFT, name, str(half)) in done:
                continue
            hidden = dealt[len(models) // 2 :]
            target = accuracy[d].copy()
            target[hidden] = np.nan
            others = np.delete(accuracy, d, 0)
            found = predict(others, target, models)
            truth = accuracy[d][hidden]
            inside = (found.low[hidden] <= truth) & (truth <= found.high[hidden])
            yield {
                "pool": SHIFT,
                "dataset": name,
                "half": half,
                "tau": weightedtau(truth, found.value[hidden])[0],
                "list_tau": weightedtau(truth, plain_list(others)[hidden])[0],
                "covered": inside.mean(),
                "width": np.median(found.high[hidden] - found.low[hidden]),
            }


def left_out(path: Path, pool: str, /) -> Iterator[dict[str, object]]:
    datasets, models, accuracy = table(path, pool)
    for d, name in enumerate(datasets):
        others = np.delete(accuracy, d, 0)
        found = predict(others, np.full(len(models), np.nan), models)
        yield {
            "pool": pool,
            "dataset": name,
            "half": "",
            "tau": weightedtau(accuracy[d], found.value)[0],
            "list_tau": weightedtau(accuracy[d], plain_list(others))[0],
        }


def summary(rows: list[dict[str, str]], /) -> None:
    for pool in (SHIFT, *SFDA):
        held = [row for row in rows if row["pool"] == pool]
        by_set: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in held:
            by_set[row["dataset"]].append((float(row["tau"]), float(row["list_tau"])))
        means = np.array([np.mean(values, axis=0) for values in by_set.values()])
        if not len(means):
            continue
        rng = np.random.default_rng(0)
        drawn = means[rng.integers(0, len(means), (2000, len(means)))].mean(1)
        low, high = np.quantile(drawn[:, 0], (0.05, 0.95))
        apart = np.quantile(drawn[:, 0] - drawn[:, 1], (0.05, 0.95))
        print(
            f"{pool}: {len(held)} rows, prior {means[:, 0].mean():.3f} [{low:.3f}, {high:.3f}], "
            f"plain list {means[:, 1].mean():.3f}, difference [{apart[0]:+.3f}, {apart[1]:+.3f}]"
        )
        if pool == SHIFT:
            print("  covered", np.mean([float(r["covered"]) for r in held]).round(3), "of 0.9; median width",
                  np.mean([float(r["width"]) for r in held]).round(3))  # fmt: skip
            for name, values in by_set.items():
                print(f"  {name:32s} {np.mean(values, axis=0)[0]:.3f}  list {np.mean(values, axis=0)[1]:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--halves", type=int, default=20)
    options = parser.parse_args()
    rows: list[dict[str, str]] = []
    if options.out.exists():
        with options.out.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    done = {(row["pool"], row["dataset"], row["half"]) for row in rows}
    with options.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not rows:
            writer.writeheader()
        parts = [left_out(options.outcomes, pool) for pool in SFDA if not any(r["pool"] == pool for r in rows)]
        for part in (*parts, halves(options.outcomes, options.halves, done)):
            for row in part:
                writer.writerow(row)
                file.flush()
    with options.out.open(newline="", encoding="utf-8") as file:
        summary(list(csv.DictReader(file)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
