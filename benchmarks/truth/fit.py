"""Fits what ships with the package: which scores add something, and what foretells fine-tuned accuracy.

python -m benchmarks.truth.fit [--datasets FOLDER]      from outcomes.csv and scores.csv beside it

Writes `service/recommendations/data/pairs.csv` (the rows, fitted again with a project's own) and `fusion.json`
(what was kept, the weights and what leaving each dataset out says). The folder is the data directory that
`benchmarks.truth.scores` used: datasets are known again by their fingerprints.
"""

import argparse
import csv
import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.truth.pool import cards, params
from benchmarks.truth.tables import HERE, Truth, measured, scores
from service.compute.finetuning import DEFAULT
from service.recommendations import fusion
from service.recommendations.knowledge import PROBES, Numbered, Pair, pairs_of

DATA = HERE.parents[1] / "service" / "recommendations" / "data"
LEAST_SHARE = 0.01
"""Of the scores' average: what has less is dropped."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=Path, default=HERE / "outcomes.csv")
    parser.add_argument("--scores", type=Path, default=HERE / "scores.csv")
    parser.add_argument("--recipe", default=DEFAULT.id)
    parser.add_argument("--datasets", type=Path, help="data directory of benchmarks.truth.scores")
    options = parser.parse_args()
    pairs = known_pairs(measured(options.outcomes, options.recipe), options.scores)
    names = sorted({name for p in pairs for name in p.standing} - {fusion.SIZE})
    tried = _fit(pairs, names, PROBES[0])
    shares = dict(zip(names, (0.0,) * len(names) if tried is None else tried.shares.round(4).tolist(), strict=True))
    kept = [name for name in sorted(names, key=lambda n: -shares[n]) if shares[name] >= LEAST_SHARE]
    fitted = {probe: _fit(pairs, kept, probe) for probe in PROBES}
    about = {
        "fitted": datetime.now(UTC).date().isoformat(),
        "command": "python -m benchmarks.truth.fit",
        "recipe": options.recipe,
        "rows": len(pairs),
        "datasets": len({p.dataset for p in pairs}),
        "models": len({p.model for p in pairs}),
        "kept": kept,
        "dropped": {name: share for name, share in shares.items() if name not in kept},
        "fitted_on": {probe: _shown(found) for probe, found in fitted.items() if found is not None},
        "seen": _seen(options.datasets),
    }
    with (DATA / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["dataset", "model", "accuracy", "n_test", *PROBES, *(f"standing:{name}" for name in names)])
        for p in pairs:
            cells = [p.probes.get(name, "") for name in PROBES]
            writer.writerow(
                [p.dataset, p.model, p.accuracy, p.n_test, *cells, *(round(p.standing.get(n, 0.0), 12) for n in names)]
            )
    text = json.dumps(about, indent=1)
    (DATA / "fusion.json").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def known_pairs(truth: Truth, scored: Path, /, *, models: Sequence[str] | None = None) -> list[Pair]:
    """Every pair with scores and an outcome; standings are among all models that were scored."""
    zoo = cards()
    sizes = {name: params(card) for name, card in zoo.items()}
    pool = Truth(
        "scored",
        truth.datasets,
        tuple(sizes if models is None else models),
        np.full((len(truth.datasets), len(sizes if models is None else models)), np.nan),
        np.empty(0),
        truth.n_test,
        np.nan,
        0,
    )
    matrices = scores(scored, pool)
    found = []
    for d, dataset in enumerate(truth.datasets):
        held = {
            model: {name: float(m[d, at]) for name, m in matrices.items() if np.isfinite(m[d, at])}
            for at, model in enumerate(pool.models)
        }
        held = {model: of for model, of in held.items() if of}
        known = dict(zip(truth.models, truth.accuracy[d], strict=True))
        outcome = {model: float(known[model]) for model in held if np.isfinite(known.get(model, np.nan))}
        made = pairs_of(dataset, held, sizes, accuracy=outcome, n_test=dict.fromkeys(outcome, truth.n_test[d]))
        found += [p for p in made if p.accuracy is not None]
    return found


def _fit(pairs: Sequence[Pair], kept: Sequence[str], probe: str) -> fusion.Fitted | None:
    numbered = Numbered.of(pairs)
    return fusion.fit(numbered.table(pairs, kept, probe), kept, places=numbered.places((), pairs))


def _shown(fitted: fusion.Fitted) -> dict[str, Any]:
    return {
        "shares": {name: round(float(w), 5) for name, w in zip(fitted.scores, fitted.shares, strict=True)},
        "weights": [round(float(w), 5) for w in fitted.weights],
        "spread": round(fitted.spread, 5),
        "gain": round(fitted.gain, 5),
        "of_datasets": round(fitted.of_datasets, 5),
        "of_pairs": round(fitted.of_pairs, 5),
        "widen": round(fitted.widen, 4),
        "penalty": fitted.penalty,
        "check": None if fitted.check is None else _proof(fitted.check),
    }


def _proof(check: fusion.Check) -> dict[str, Any]:
    measures = {"tau": 0, "regret_1": 1, "regret_3": 2}
    means = {n: {part: round(v, 4) for part, v in check.mean(at).items()} for n, at in measures.items()}
    return means | {
        "datasets": check.datasets,
        "covered": round(check.covered, 4),
        "absolute_error": round(check.absolute_error, 3),
        "wins": check.wins,
    }


def _seen(folder: Path | None) -> dict[str, Any]:
    """By dataset: fingerprint, classes and images."""
    if folder is None:
        before = DATA / "fusion.json"
        held: dict[str, Any] = json.loads(before.read_text(encoding="utf-8"))["seen"] if before.exists() else {}
        return held
    query = "SELECT name, fingerprint, n_classes, n_images FROM datasets WHERE fingerprint IS NOT NULL"
    with closing(sqlite3.connect(folder / "zooscout.sqlite")) as database:
        rows = database.execute(query).fetchall()
    return {name: {"fingerprint": f, "classes": classes, "images": n} for name, f, classes, n in rows}


if __name__ == "__main__":
    sys.exit(main())
