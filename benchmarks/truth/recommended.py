"""The recommendation as a predictor: chosen, fitted and widened anew for every dataset, without its outcomes."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from benchmarks.truth.agreement import Vector
from benchmarks.truth.predictors import Known
from service.recommendations import fusion
from service.recommendations.knowledge import PROBES, Numbered, Pair, pairs_of


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """Of each model of the pool, NaN where it has no probe; which part orders, and what each score counts."""

    part: fusion.Part
    shares: dict[str, float]
    merit: Vector
    accuracy: Vector
    low: Vector
    high: Vector


_held: dict[tuple[object, ...], Told | None] = {}


def foretold(known: Known, /, *, part: fusion.Part | None = None, without: Collection[str] = ()) -> Told | None:
    """Both together where the other datasets show that they beat their halves, else the evidence; or one part.

    Args:
        known: what may be looked at.
        part: which part orders, whatever the other datasets show.
        without: models whose outcomes are not learned from.
    """
    of = known.truth.models, known.target, known.truth.accuracy.tobytes(), tuple(known.scores)
    key = (*of, part, tuple(sorted(without)))
    if key not in _held:
        _held[key] = _foretold(known, part, without)
    return _held[key]


def _foretold(known: Known, part: fusion.Part | None, without: Collection[str]) -> Told | None:
    rows = [_pairs(known, d) for d in range(len(known.truth.datasets))]
    probe = PROBES[0] if PROBES[0] in known.scores else None
    target = [p for p in rows[known.target] if probe is None or probe in p.probes]
    pairs = [
        p
        for d, of in enumerate(rows)
        for p in of
        if d != known.target and p.accuracy is not None and p.model not in without
        if probe is None or probe in p.probes
    ]
    if not pairs or not target:
        return None
    kept = sorted({name for p in pairs for name in p.standing} - {fusion.SIZE})
    numbered = Numbered.of([*pairs, *target])
    table, places = numbered.table(pairs, kept, probe), numbered.places((), pairs)
    fitted = fusion.fit(table, kept, places=places, part=part or "together")
    if fitted is not None and part is None and not (fitted.check and fitted.check.wins):
        fitted = fusion.fit(table, kept, places=places, part="evidence")
    if fitted is None:
        return None
    found = fusion.foretell(fitted, numbered.table(target, kept, probe))
    at = [known.truth.models.index(p.model) for p in target]
    columns = []
    for values in (found.merit, found.accuracy, found.low, found.high):
        column = np.full(len(known.truth.models), np.nan)
        column[at] = values
        columns.append(column)
    return Told(fitted.part, dict(zip(kept, fitted.shares.tolist(), strict=True)), *columns)


def _pairs(known: Known, d: int) -> list[Pair]:
    models = known.truth.models
    scores = {
        model: {name: float(m[d, at]) for name, m in known.scores.items() if np.isfinite(m[d, at])}
        for at, model in enumerate(models)
    }
    sizes = {m: int(size) if np.isfinite(size) else None for m, size in zip(models, known.params, strict=True)}
    outcomes = {m: float(a) for m, a in zip(models, known.truth.accuracy[d], strict=True) if np.isfinite(a)}
    scored = {model: of for model, of in scores.items() if of}
    n_test = dict.fromkeys(outcomes, known.truth.n_test[d])
    return pairs_of(known.truth.datasets[d], scored, sizes, accuracy=outcomes, n_test=n_test)
