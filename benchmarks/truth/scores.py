"""Every estimator's score of every pair, through the product: what the report holds against the truth.

python -m benchmarks.truth.scores --data-dir FOLDER        goes on where it stopped: a dataset that is done stays so

Scores are of the training images alone, at each model's own input size. PED, the divergence and the distances between
domains need a reference set: cifar10, the one set of photographs; of cifar10 itself they say nothing and are left out.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.truth.pool import DATASETS, SHARED, cards
from benchmarks.truth.tables import HERE, read
from estimators.catalog import SPECS, Need
from zoo.catalog import ModelCard

REFERENCE = "cifar10"
COLUMNS = ("dataset", "model", "estimator", "version", "direction", "value", "stderr", "seconds", "degenerate")
NAMES = tuple(name for name, spec in SPECS.items() if Need.TEXT_PROTOTYPES not in spec.needs)
_AGAINST_REFERENCE = frozenset(
    name for name, spec in SPECS.items() if spec.needs & {Need.BACKGROUND, Need.REFERENCE_FEATURES}
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE / "scores.csv")
    parser.add_argument("--models", help="comma-separated; all if not given")
    options = parser.parse_args()
    chosen = options.models.split(",") if options.models else list(cards(at_hand=True))
    folder = options.data_dir.resolve()
    known = {model["name"] for model in _said(folder, "models", "ls", "--limit", "1000", "--json")["items"]}
    for card in cards(at_hand=True).values():
        if card.name not in known:
            _said(folder, "models", "add", *_arguments(card), "--json")
    held = {dataset["name"] for dataset in _said(folder, "datasets", "ls", "--limit", "200", "--json")["items"]}
    for dataset in DATASETS:
        if dataset in held:
            continue
        archive = (SHARED / "images" / f"{dataset}.zip").resolve()
        _said(folder, "datasets", "add", str(archive), "--name", dataset, "--json")
    _said(folder, "reference", "set", REFERENCE, "--json")
    names = [word for name in chosen for word in ("--models", name)]
    rows: list[Mapping[str, Any]] = list(read(options.out)) if options.out.exists() else []
    for dataset in DATASETS:
        if _done(rows, dataset, chosen):
            continue
        print(dataset, file=sys.stderr, flush=True)
        view = _said(folder, "rank", dataset, *names, "--estimators", ",".join(NAMES), "--json")
        rows = [r for r in rows if r["dataset"] != dataset or r["model"] not in chosen] + list(_rows(dataset, view))
        with options.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return 0


def _done(rows: Sequence[Mapping[str, Any]], dataset: str, models: Sequence[str]) -> bool:
    """Whether each of these models has a row of every estimator's version of today."""
    left_out = _AGAINST_REFERENCE if dataset == REFERENCE else frozenset()
    held = {(r["model"], r["estimator"], str(r["version"])) for r in rows if r["dataset"] == dataset}
    due = ((model, name) for model in models for name in NAMES if name not in left_out)
    return all((model, name, str(SPECS[name].version)) in held for model, name in due)


def _said(folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        env=os.environ | {"ZOOSCOUT_DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _arguments(card: ModelCard) -> Iterator[str]:
    shown = card.preprocess
    yield card.name
    yield from ("--arch", card.architecture, "--arch-kwargs", json.dumps(dict(card.arch_kwargs)))
    yield from ("--weights", card.weights.uri, "--match", card.weights.match)
    yield from ("--mean", ",".join(map(str, shown.mean)), "--std", ",".join(map(str, shown.std)))
    yield from ("--input-size", str(shown.input_size[-1]), "--crop-pct", str(shown.crop_pct))
    yield from ("--pretrained-on", card.pretrained_on or "", "--tag", "set=truth")


def _rows(dataset: str, view: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in view["entries"]:
        for name, score in entry["scores"].items():
            if dataset == REFERENCE and name in _AGAINST_REFERENCE:
                continue
            yield {
                "dataset": dataset,
                "model": entry["model"],
                "estimator": name,
                "version": SPECS[name].version,
                "direction": str(SPECS[name].direction),
                "value": score["value"],
                "stderr": score["stderr"],
                "seconds": score.get("seconds"),
                "degenerate": score.get("degenerate"),
            }


if __name__ == "__main__":
    sys.exit(main())
