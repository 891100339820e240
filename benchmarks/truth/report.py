"""How well predictions agree with what fine-tuning gave: `make bench-truth`.

python -m benchmarks.truth.report                          the committed outcomes and scores
python -m benchmarks.truth.report --published OUTCOMES.csv  published accuracies as well, for what needs no features

Runs on unfinished files and says what is missing. Every prediction for a dataset is made without its accuracies.
"""

import argparse
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.truth.agreement import (
    MEASURES,
    Matrix,
    Vector,
    by_dataset,
    differences,
    knowing,
    likeness,
    mean_and_interval,
    tau_both,
)
from benchmarks.truth.pool import SHARED, cards, family, params
from benchmarks.truth.predictors import PREDICTORS, Known, predictions
from benchmarks.truth.recommended import foretold
from benchmarks.truth.tables import HERE, Truth, measured, published, published_scores, read, scores
from service.compute.finetuning import DEFAULT
from service.recommendations import prior

LEAST = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=Path, default=HERE / "outcomes.csv")
    parser.add_argument("--scores", type=Path, default=HERE / "scores.csv")
    parser.add_argument("--recipe", default=DEFAULT.id)
    parser.add_argument("--published", type=Path, default=SHARED / "truth" / "outcomes.csv")
    parser.add_argument("--published-scores", type=Path, default=SHARED / "truth" / "published_scores.csv")
    options = parser.parse_args()
    lines = list(report(options.outcomes, options.scores, options.recipe))
    if options.published.is_file():
        lines += published_report(options.published)
        if options.published_scores.is_file():
            lines += published_scores_report(options.published, options.published_scores)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def report(outcomes: Path, scored: Path, recipe: str, /) -> Iterator[str]:
    everything = measured(outcomes, recipe)
    zoo = cards()
    yield f"# Agreement with fine-tuning, recipe {recipe}"
    yield ""
    yield from _state(everything, list(zoo))
    truth = everything.only(everything.complete)
    if len(truth.models) < LEAST:
        yield f"Only {len(truth.models)} models are measured on every dataset; a table needs {LEAST}."
        return
    estimated = scores(scored, truth) if scored.is_file() else {}
    if not estimated:
        yield f"There is no {scored.name}, so estimators are left out; `python -m benchmarks.truth.scores` makes it."
    sizes = np.array([float(params(zoo[m])) if m in zoo else math.nan for m in truth.models])
    top1 = np.array([zoo[m].imagenet_top1 or math.nan if m in zoo else math.nan for m in truth.models])
    families = [family(zoo[m]) if m in zoo else m.partition(".")[0] for m in truth.models]
    told = predictions(truth, estimated, sizes, top1)
    yield from _tables(truth, told)
    yield from _noise(truth)
    if estimated:
        yield from _intervals(Known(truth, 0, estimated, sizes, top1))
        yield from _family_out(Known(truth, 0, estimated, sizes, top1), families)
    yield from _fidelity(truth, told)
    yield from _subsets(truth, estimated, sizes, top1, families)


def published_report(path: Path, /) -> Iterator[str]:
    yield "# Published accuracies: what needs no features"
    yield ""
    yield "| benchmark | datasets | models | τw between datasets | static list τw | regret@1 | regret@3 | prior τw |"
    yield "|---|---|---|---|---|---|---|---|"
    for truth in published(path):
        if len(truth.datasets) < 2 or len(truth.models) < LEAST:
            continue
        nothing = np.full(len(truth.models), math.nan)
        told = predictions(truth, {}, nothing, nothing)["static list"]
        cells = [_cell(by_dataset(truth.accuracy, told, MEASURES[m])) for m in ("τw", "regret@1", "regret@3")]
        cells.append(_cell(by_dataset(truth.accuracy, _priors(truth), tau_both)))
        alike = "{:.3f} ± {:.3f}".format(*likeness(truth.accuracy))
        yield f"| {truth.name} | {len(truth.datasets)} | {len(truth.models)} | {alike} | {' | '.join(cells)} |"
    yield ""


def published_scores_report(outcomes: Path, scored: Path, /) -> Iterator[str]:
    """The same tables where estimators' published scores stand beside published accuracies."""
    for name in sorted({row["benchmark"] for row in read(scored)}):
        truth = next((t for t in published(outcomes) if t.name == name), None)
        if truth is None:
            continue
        estimated = published_scores(scored, truth)
        nothing = np.full(len(truth.models), math.nan)
        yield f"# Published scores of {len(estimated)} estimators on {name}"
        yield ""
        told = predictions(truth, estimated, nothing, nothing)
        yield from _tables(truth, {name: matrix for name, matrix in told.items() if np.isfinite(matrix).any()})
        yield from _intervals(Known(truth, 0, estimated, nothing, nothing))


def _priors(truth: Truth) -> Matrix:
    """The package's prior for a dataset without any outcome, from the others of its pool."""
    nothing = np.full(len(truth.models), math.nan)
    others = (np.delete(truth.accuracy, d, axis=0) for d in range(len(truth.datasets)))
    return np.array([prior.predict(of, nothing, truth.models).value for of in others])


def _state(truth: Truth, pool: Sequence[str]) -> Iterator[str]:
    pairs, due = int(np.isfinite(truth.accuracy).sum()), len(pool) * max(8, len(truth.datasets))
    complete = len(truth.complete)
    if pairs < due:
        yield f"**Unfinished: {pairs} of {due} pairs are measured, {complete} of {len(pool)} models on every dataset.**"
    else:
        yield f"{pairs} pairs: {complete} models on {len(truth.datasets)} datasets."
    known = np.isfinite(truth.accuracy) & np.isfinite(truth.probe)
    gain = 100 * (truth.accuracy - truth.probe)[known]
    if gain.size:
        yield (
            f"Fine-tuning beats a ridge probe on all training images on {int((gain > 0).sum())} of {gain.size} pairs "
            f"and falls short on {int((gain < 0).sum())}; mean gain {gain.mean():+.1f} points, worst {gain.min():+.1f}."
        )
    noise = "no pair has several seeds yet"
    if truth.seed_pairs:
        noise = f"standard deviation between seeds {truth.seed_deviation:.1f} points ({truth.seed_pairs} pairs)"
    yield f"Noise: {noise}; 400 test images leave 1.5 points at 90 % accuracy and 2.5 at 50 %."
    yield ""


def _tables(truth: Truth, told: Mapping[str, Matrix]) -> Iterator[str]:
    alike, spread = likeness(truth.accuracy)
    yield (
        f"How hard the pool is: mean τw between the true orders of two datasets {alike:.3f} ± {spread:.3f}. "
        "The nearer to 1, the less there is to predict that a list does not know."
    )
    yield ""
    yield (
        "Means over datasets, 90 % bootstrap intervals over datasets. τw: SciPy's default (`rank=True`, symmetric); "
        "by truth: `weightedtau(truth, prediction, rank=None)`. Regret in points of accuracy. hit: the best model is "
        "among the first three. n: datasets."
    )
    yield ""
    yield f"| prediction | n | {' | '.join(MEASURES)} |"
    yield "|---" * (len(MEASURES) + 2) + "|"
    for name in _sorted(truth, told):
        values = {m: by_dataset(truth.accuracy, told[name], measure) for m, measure in MEASURES.items()}
        n = int(np.isfinite(values["τw"]).sum())
        yield f"| {name} | {n} | {' | '.join(_cell(v) for v in values.values())} |"
    yield ""
    yield f"τw by dataset | {' | '.join(truth.datasets)}"
    yield "|".join(["---"] * (len(truth.datasets) + 1))
    for name in _sorted(truth, told):
        cells = by_dataset(truth.accuracy, told[name], tau_both)
        yield f"{name} | {' | '.join(_number(value) for value in cells)}"
    yield ""


def _noise(truth: Truth) -> Iterator[str]:
    found = {name: knowing(truth.accuracy, truth.n_test, MEASURES[name]) for name in ("τw", "regret@1", "regret@3")}
    cells = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
    yield (
        "Who knew every accuracy as it was measured would have, held against as many other test images, "
        f"{cells} on average: what is better than that here is luck, or a measure over fewer models."
    )
    yield ""


def _intervals(known: Known) -> Iterator[str]:
    """Of the recommendation, each dataset foretold without its outcomes."""
    inside, missed, widths, parts = [], [], [], Counter[str]()
    shares: dict[str, list[float]] = defaultdict(list)
    for target in range(len(known.truth.datasets)):
        told = foretold(known.blind(target))
        if told is None:
            continue
        truth = known.truth.accuracy[target]
        has = np.isfinite(truth) & np.isfinite(told.accuracy)
        inside += list(((told.low <= truth) & (truth <= told.high))[has])
        missed += list(100 * np.abs(told.accuracy - truth)[has])
        widths += list(100 * (told.high - told.low)[has])
        parts[told.part] += 1
        for name, share in told.shares.items():
            shares[name].append(share)
    if not inside:
        return
    yield (
        f"90 % intervals of the recommendation cover {np.mean(inside):.1%} of {len(inside)} pairs; median width "
        f"{np.median(widths):.1f} points, mean error {np.mean(missed):.1f}. Ordered by "
        f"{', '.join(f'{part} on {n}' for part, n in parts.most_common())} datasets."
    )
    means = sorted(((float(np.mean(of)), name) for name, of in shares.items()), reverse=True)
    yield f"Share of each score in the average of evidence: {', '.join(f'{name} {of:.3f}' for of, name in means)}."
    yield ""


def _family_out(known: Known, families: Sequence[str]) -> Iterator[str]:
    """Each family foretold by what was learned from the others, and without the dataset's outcomes."""
    values = []
    for target in range(len(known.truth.datasets)):
        blind, merit = known.blind(target), np.full(len(families), math.nan)
        for name in dict.fromkeys(families):
            own = [m for m, of in zip(known.truth.models, families, strict=True) if of == name]
            told = foretold(blind, without=own)
            if told is not None:
                rows = [known.truth.models.index(m) for m in own]
                merit[rows] = told.merit[rows]
        values.append(merit)
    taus = by_dataset(known.truth.accuracy, np.array(values), tau_both)
    yield f"Leave one family out: τw of the recommendation, each family foretold by the others: {_cell(taus)}."
    yield ""


def _fidelity(truth: Truth, told: Mapping[str, Matrix]) -> Iterator[str]:
    yield "Pairs of models on one dataset, predicted against true difference of accuracy."
    yield ""
    yield "| prediction | pairs | ordered rightly | pairs beyond 2 standard errors | ordered rightly | correlation |"
    yield "|---|---|---|---|---|---|"
    for name in _sorted(truth, told):
        found = differences(truth.accuracy, told[name], truth.n_test)
        shares = [f"{found[key]:.1%}" if math.isfinite(found[key]) else "–" for key in ("right", "told_right")]
        cells = (found["pairs"], shares[0], found["told_pairs"], shares[1], _number(found["correlation"]))
        yield f"| {name} | {' | '.join(map(str, cells))} |"
    yield ""


def _subsets(
    truth: Truth, estimated: Mapping[str, Matrix], sizes: Vector, top1: Vector, families: Sequence[str]
) -> Iterator[str]:
    """Mean τw with part of the pool left out; the list is made anew from what is left."""
    groups: dict[str, list[int]] = {"all": list(range(len(truth.models)))}
    for name in dict.fromkeys(families):
        groups[f"without {name}"] = [i for i, of in enumerate(families) if of != name]
    order = np.argsort(sizes)
    if np.isfinite(sizes).all():
        groups["without the largest quarter"] = sorted(order[: math.ceil(0.75 * len(order))].tolist())
        half = len(order) // 2
        groups["the smaller half"], groups["the larger half"] = (
            sorted(order[:half].tolist()),
            sorted(order[half:].tolist()),
        )
    kept = {name: rows for name, rows in groups.items() if len(rows) >= LEAST}
    columns: dict[str, dict[str, str]] = {}
    for group, rows in kept.items():
        part = truth.only(truth.models[i] for i in rows)
        of_part = {name: matrix[:, rows] for name, matrix in estimated.items()}
        for name, matrix in predictions(part, of_part, sizes[rows], top1[rows]).items():
            mean = mean_and_interval(by_dataset(part.accuracy, matrix, tau_both))[0]
            columns.setdefault(name, {})[group] = _number(mean)
    yield "Mean τw with part of the pool left out."
    yield ""
    yield f"| prediction | {' | '.join(f'{group} ({len(rows)})' for group, rows in kept.items())} |"
    yield "|---" * (len(kept) + 1) + "|"
    for name, cells in columns.items():
        yield f"| {name} | {' | '.join(cells[group] for group in kept)} |"
    yield ""


def _sorted(truth: Truth, told: Mapping[str, Matrix]) -> list[str]:
    """What needs no features first, then the estimators, the best first."""
    tau = {name: mean_and_interval(by_dataset(truth.accuracy, told[name], tau_both))[0] for name in told}
    return sorted(told, key=lambda name: (name not in PREDICTORS, -tau[name] if math.isfinite(tau[name]) else 9.0))


def _cell(values: Vector) -> str:
    mean, low, high = mean_and_interval(values)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if math.isfinite(mean) else "–"


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "–"


if __name__ == "__main__":
    sys.exit(main())
