"""Races models over growing samples of real images, and compares with ranking all of them on all images.

python -m benchmarks.racing DATA_DIR [--seeds 5] [--budget-share 0.25]

DATA_DIR is a zooscout data directory in which the models have embedded the images (`zooscout prescore` does it for
training images): no image is embedded here, and none twice there. The sets at hand have about 500 each, so
that the datasets raced on are unions of several, with the classes of all. What decides is the product's own:
service.rankings.race and service.rankings.sampling, with LogME.
"""

import argparse
import csv
import fnmatch
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from estimators.evidence import Evidence
from estimators.panel import evaluate
from estimators.score import Score
from service.core.db import Database
from service.core.settings import Settings
from service.datasets import repository as datasets
from service.datasets.manifest import read_manifest
from service.embeddings.opening import open_store
from service.embeddings.protocol import StoreKey
from service.keys.tables import DEFAULT_PROJECT
from service.models import repository as models
from service.prescores.planning import extractors
from service.rankings.race import TOP_K, Standing, judge, rungs
from service.rankings.sampling import sample
from service.schema import all_tables


class Pool:
    """Features of every model on the training images of every dataset."""

    def __init__(self, data_dir: Path, *, without: list[str], sets: list[str]) -> None:
        settings = Settings(data_dir=data_dir)
        all_tables()
        database = Database.from_settings(settings)
        store = open_store(settings, database)
        with database.read() as session:
            by_model = extractors(session, DEFAULT_PROJECT)
            rows = models.by_ids(session, DEFAULT_PROJECT, list(by_model))
            sealed = [ident for ident, state in datasets.states(session, DEFAULT_PROJECT).items() if state == "sealed"]
            names = {ident: datasets.get(session, DEFAULT_PROJECT, ident).name for ident in sealed}
        named = sorted((rows[ident].name, key) for ident, key in by_model.items())
        self.models = [(name, key) for name, key in named if not any(fnmatch.fnmatch(name, glob) for glob in without)]
        self.hashes: dict[str, list[bytes]] = {}
        self.labels: dict[str, np.ndarray[Any, np.dtype[np.int64]]] = {}
        self.features: dict[tuple[str, str], torch.Tensor] = {}
        for ident in sealed:
            name = names[ident]
            if sets and name not in sets:
                continue
            part = read_manifest(settings.manifest_root / DEFAULT_PROJECT / f"{ident}.parquet")
            keys = [StoreKey(DEFAULT_PROJECT, extractor) for _, extractor in self.models]
            images = [row.tobytes() for row in part.content_hashes]
            if any(store.missing(key, images) for key in keys):
                part = part.of_split("train")
            self.hashes[name] = [row.tobytes() for row in part.content_hashes]
            self.labels[name] = part.labels
            for model, extractor in self.models:
                rows_of = store.get(StoreKey(DEFAULT_PROJECT, extractor), self.hashes[name])
                self.features[model, name] = torch.from_numpy(rows_of)

    def union(self, names: tuple[str, ...]) -> tuple[np.ndarray[Any, np.dtype[np.int64]], dict[str, torch.Tensor]]:
        """Labels and features by model of several sets as one."""
        labels, first = [], 0
        for name in names:
            labels.append(self.labels[name] + first)
            first += int(self.labels[name].max()) + 1
        joined = {model: torch.cat([self.features[model, name] for name in names]) for model, _ in self.models}
        return np.concatenate(labels), joined


def score(features: torch.Tensor, labels: np.ndarray[Any, np.dtype[np.int64]]) -> Score | None:
    return evaluate(Evidence(labels=torch.from_numpy(labels), features=features), ["logme"])["logme"].score


def unions(names: list[str], n: int, size: int) -> Iterator[tuple[str, ...]]:
    every = list(itertools.combinations(sorted(names), min(size, len(names))))
    n = min(n, len(every))
    chosen = np.random.default_rng(6).choice(len(every), size=n, replace=False)
    return (every[i] for i in sorted(chosen))


def race(
    labels: np.ndarray[Any, np.dtype[np.int64]],
    features: dict[str, torch.Tensor],
    seed: int,
    budget: int | None,
) -> dict[str, Any]:
    """One race; a seed stands for another dataset of the same kind by dealing the images in another order."""
    dealt = np.random.default_rng(seed).permutation(len(labels))
    labels = labels[dealt]
    left, before, values, spent, dropped = list(features), None, dict[str, float](), 0, dict[str, float]()
    ended = "all images"
    for size in rungs(len(labels), len(np.unique(labels))):
        step = size - (before or 0)
        if budget is not None and spent + step * len(left) > budget:
            step = (budget - spent) // len(left)
            if step < 0.1 * (before or 0) or before is None:
                ended = "budget"
                break
            size = before + step
        spent += step * len(left)
        chosen = sample(labels, size)
        scored = {m: score(features[m][torch.from_numpy(dealt[chosen])], labels[chosen]) for m in left}
        found = {m: each for m, each in scored.items() if each is not None}
        standings = [
            Standing(model_id=m, value=s.value, replicates=s.replicates, before=values.get(m)) for m, s in found.items()
        ]
        k = TOP_K if len(standings) > TOP_K else 1
        verdict = judge(standings, sample=size, before=before, images=len(labels), k=k)
        dropped |= dict(verdict.dropped)
        unjudged = [m for m in left if m not in found]  # as in a ranking: nothing is held against them
        left = [model for model, _ in verdict.kept] + unjudged
        values |= {m: s.value for m, s in found.items()}
        before = size
        if len(left) <= TOP_K:
            ended = f"{TOP_K} left"
            break
        if budget is not None and spent >= budget:
            ended = "budget"
            break
    first = sorted(left, key=lambda m: -values.get(m, -np.inf))[:TOP_K]
    return {"first": first, "dropped": dropped, "passes": spent, "images": len(labels), "rung": before, "ended": ended}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--sets", nargs="*", default=[], help="those that are there if none is named")
    parser.add_argument("--union", type=int, default=5, help="sets that make one dataset")
    parser.add_argument("--without", nargs="*", default=[], help="globs of models")
    parser.add_argument("--datasets", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budget-share", type=float, default=None, help="of the passes of the full ranking")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/racing.csv"))
    given = parser.parse_args()
    pool = Pool(given.data_dir, without=given.without, sets=given.sets)
    cache = given.out.with_suffix(".full.json")
    full: dict[str, dict[str, Any]] = json.loads(cache.read_text()) if cache.exists() else {}
    rows: list[dict[str, Any]] = list(csv.DictReader(given.out.open())) if given.out.exists() else []
    done = {(row["datasets"], row["seed"], row["budget_share"]) for row in rows}
    for names in unions(list(pool.labels), given.datasets, given.union):
        labels, features = pool.union(names)
        key = f"{len(features)} models: " + " ".join(names)
        if key not in full:
            found = {m: score(f, labels) for m, f in features.items()}
            full[key] = {m: {"value": s.value, "replicates": list(s.replicates)} for m, s in found.items() if s}
            cache.write_text(json.dumps(full))
        for seed in range(given.seeds):
            share = "" if given.budget_share is None else str(given.budget_share)
            if (key, str(seed), share) in done:
                continue
            start = time.perf_counter()
            whole = len(labels) * len(features)
            budget = None if given.budget_share is None else int(whole * given.budget_share)
            result = race(labels, features, seed, budget)
            rows.append(
                {"datasets": key, "seed": str(seed), "budget_share": share} | compared(result, full[key], whole)
            )
            sys.stderr.write(f"{key} {seed}: {rows[-1]} {time.perf_counter() - start:.1f} s\n")
            with given.out.open("w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
    report(rows)


def compared(result: dict[str, Any], full: dict[str, Any], whole: int) -> dict[str, Any]:
    """Against the ranking of all models on all images: passes, regret, and what a drop has cost."""
    best = sorted(full, key=lambda m: -full[m]["value"])[:TOP_K]
    entered = [m for m in result["dropped"] if m in best]
    regret = np.mean([full[m]["value"] for m in best]) - np.mean([full[m]["value"] for m in result["first"]])
    if set(result["first"]) == set(best):
        regret = 0.0  # their means differ by the order of summation
    apart = np.mean([full[m]["replicates"] for m in best], axis=0) - np.mean(
        [full[m]["replicates"] for m in result["first"]], axis=0
    )
    blocks = len(apart)
    error = float(np.sqrt((blocks - 1) / blocks * ((apart - apart.mean()) ** 2).sum()))
    single = float(np.mean([np.std(full[m]["replicates"]) * np.sqrt(blocks - 1) for m in best]))
    return {
        "images": result["images"],
        "passes": result["passes"],
        "times_fewer": f"{whole / result['passes']:.2f}",
        "rung": result["rung"],
        "ended": result["ended"],
        "dropped": len(result["dropped"]),
        "entered": len(entered),
        "stated": f"{sum(result['dropped'].values()):.3f}",
        "regret": f"{regret:.5f}",
        "regret_in_errors": f"{regret / single:.3f}" if regret > 0 else "0",
        "regret_in_errors_of_difference": f"{regret / error:.3f}" if regret > 0 else "0",
        "hit": len(set(result["first"]) & set(best)),
    }


def report(rows: list[dict[str, Any]]) -> None:
    for share in sorted({row["budget_share"] for row in rows}):
        of = [row for row in rows if row["budget_share"] == share]
        times = np.array([float(row["times_fewer"]) for row in of])
        regret = np.array([float(row["regret_in_errors"]) for row in of])
        paired = np.array([float(row["regret_in_errors_of_difference"]) for row in of])
        dropped, entered = (sum(int(row[name]) for row in of) for name in ("dropped", "entered"))
        stated = sum(float(row["stated"]) for row in of)
        print(f"budget {share or 'none'}: {len(of)} races on {len({row['datasets'] for row in of})} datasets")
        print(f"  passes: {np.median(times):.1f} times fewer (median; {times.min():.1f} to {times.max():.1f})")
        print(f"  >= 4 times fewer in {np.mean(times >= 4):.0%}; ended: {sorted({row['ended'] for row in of})}")
        print(f"  top-3 regret <= 1 standard error of a score in {np.mean(regret <= 1):.0%} (worst {regret.max():.2f})")
        print(f"  <= 1 standard error of the difference in {np.mean(paired <= 1):.0%} (worst {paired.max():.2f})")
        print(f"  dropped {dropped}, of which {entered} belong to the first three ({entered / max(dropped, 1):.1%};")
        print(f"  stated {stated:.1f}); top-3 hits {np.mean([int(row['hit']) for row in of]):.2f} of 3")


if __name__ == "__main__":
    main()
