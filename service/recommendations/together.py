"""What to expect of each candidate, from its scores here and from what fine-tuning gave elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from service.recommendations.gather import Known, Own, Scored
from service.recommendations.knowledge import PROBES, Numbered, Pair, Place, pairs_of, shipped
from service.recommendations.model import CheckOf, Driver, ExpectedOf, FitOf

if TYPE_CHECKING:
    from service.recommendations.fusion import Fitted, Foretold

TARGET = "the target"
FEWEST = 4
"""Datasets with outcomes from which anything is foretold."""
DRAWS = 4_000
SEED = 20_261_121
BEYOND = 3.7  # errors of a difference
_DRIVERS = 4
_LEAST_POINTS = 0.05


@dataclass(frozen=True, slots=True)
class Forecast:
    """By model: what is expected, what orders, and which others it cannot be told apart from."""

    expected: Mapping[str, ExpectedOf]
    merit: Mapping[str, float]
    tied_with: Mapping[str, tuple[str, ...]]
    fit: FitOf
    warnings: tuple[str, ...]
    best_among: Callable[[Collection[str]], Mapping[str, float]]
    """How likely each of some of the models is the best of them."""


def forecast(known: Known, scored: Scored, dataset_id: str, fingerprint: str | None, /) -> Forecast | None:
    """None where no score of the ranking foretells anything, or too little is known to fit anything to."""
    names = {name for of_model in scored.scores.values() for name in of_model}
    without = [dataset_id, *([fingerprint] if fingerprint else [])]
    pairs = known.pairs(without=without)
    probe = _probe([name for name in PROBES if name in names], pairs)
    wanted = tuple(n for n in shipped().estimators if n in names)
    if not wanted:
        return None
    of_target = [o for own in known.own if own.among(without) for o in own.outcomes]
    here = {o.model: o.accuracy for o in of_target}
    tests = {o.model: o.n_test for o in of_target}
    target = pairs_of(TARGET, scored.scores, scored.params, accuracy=here, n_test=tests)
    target = [p for p in target if probe is None or probe in p.probes]
    pairs = [p for p in pairs if probe is None or probe in p.probes]
    places = tuple(known.places(without=without))
    if not target or len({p.dataset for p in pairs}) < FEWEST:
        return None
    fits = _fits(tuple(map(_frozen, pairs)), places, wanted, probe, tuple(p.model for p in target))
    chosen = fits.together if fits.together and fits.together.check and fits.together.check.wins else fits.evidence
    if chosen is None:
        return None
    told = _told(fits, chosen, tuple(map(_frozen, target)), wanted, probe)
    labels = [*chosen.scores, "record"]
    return Forecast(
        _expected(target, told, labels, here),
        {p.model: float(value) for p, value in zip(target, told.found.merit, strict=True)},
        told.ties,
        FitOf(
            part="together" if chosen.part == "together" else "evidence",
            dated=shipped().about["fitted"] if known.newest is None else known.newest.date().isoformat(),
            rows=chosen.n_rows,
            of_project=chosen.n_rows - sum(p.dataset in shipped().seen for p in pairs),
            datasets=chosen.n_datasets,
            level=probe,
            weights={
                name: float(w)
                for name, w in zip(labels, (*(chosen.shares * chosen.weights[0]), chosen.weights[1]), strict=True)
            },
            check=_check(fits.together),
        ),
        _warnings(chosen, target, probe),
        lambda names: _chances(told.found, [at for at, p in enumerate(target) if p.model in names], target),
    )


def left_out(known: Known, wanted: Sequence[Own], /) -> list[tuple[Own, Mapping[str, tuple[float, float, float]]]]:
    """Weighted tau and both regrets of each of these datasets, foretold without its outcomes."""
    pairs = known.pairs(without=[o.fingerprint for own in wanted for o in own.outcomes if o.fingerprint])
    ours = [p for own in wanted for p in own.pairs if p.accuracy is not None]
    probe = _probe(PROBES, ours)
    pairs = [p for p in pairs if probe is None or probe in p.probes]
    columns = tuple(n for n in shipped().estimators if any(n in p.standing for p in ours))
    places = tuple(known.places())
    if not pairs:
        return []
    fits = _fits(tuple(map(_frozen, pairs)), places, columns, probe, ())
    held = fits.together.check.held if fits.together and fits.together.check else {}
    found = ((own, held.get(fits.numbered.datasets.get(own.key, -1))) for own in wanted)
    return [(own, dict(of.items())) for own, of in found if of]


def _probe(names: Sequence[str], pairs: Sequence[Pair]) -> str | None:
    """The one that most rows have; of two alike the first."""
    return max(names, key=lambda name: sum(name in p.probes for p in pairs), default=None)


def _check(together: Fitted | None) -> CheckOf | None:
    proof = together.check if together else None
    if proof is None or not proof.datasets:
        return None
    return CheckOf(
        datasets=proof.datasets,
        tau=dict(proof.mean(0).items()),
        regret_1=dict(proof.mean(1).items()),
        regret_3=dict(proof.mean(2).items()),
        covered=proof.covered,
        absolute_error=proof.absolute_error,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Fits:
    numbered: Numbered
    together: Fitted | None
    evidence: Fitted | None


Frozen = tuple[str, str, tuple[tuple[str, float], ...], tuple[tuple[str, float], ...], float | None, int | None]


def _frozen(pair: Pair) -> Frozen:
    probes, standing = tuple(sorted(pair.probes.items())), tuple(sorted(pair.standing.items()))
    return pair.dataset, pair.model, probes, standing, pair.accuracy, pair.n_test


@lru_cache(maxsize=32)
def _fits(
    frozen: tuple[Frozen, ...],
    places: tuple[Place, ...],
    wanted: tuple[str, ...],
    probe: str | None,
    models: tuple[str, ...],
) -> _Fits:
    """The same rows give the same fit, and asking twice is the rule."""
    from service.recommendations.fusion import fit

    pairs = [Pair(d, m, dict(probes), dict(of), accuracy, n) for d, m, probes, of, accuracy, n in frozen]
    numbered = Numbered.of([*pairs, *(Pair(TARGET, model, {}, {}) for model in models)], places)
    table, records = numbered.table(pairs, wanted, probe), numbered.places(places, pairs)
    together = fit(table, wanted, places=records)
    return _Fits(numbered, together, fit(table, wanted, places=records, part="evidence"))


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    found: Foretold
    chances: Mapping[str, float]
    ties: Mapping[str, tuple[str, ...]]


@lru_cache(maxsize=32)
def _told(fits: _Fits, chosen: Fitted, frozen: tuple[Frozen, ...], wanted: tuple[str, ...], probe: str | None) -> _Told:
    """Whoever tries other constraints asks for the same."""
    from service.recommendations.fusion import foretell

    target = [Pair(d, m, dict(probes), dict(of), accuracy, n) for d, m, probes, of, accuracy, n in frozen]
    found = foretell(chosen, fits.numbered.table(target, wanted, probe))
    return _Told(found, _chances(found, range(len(target)), target), _ties(target, found))


def _expected(
    target: Sequence[Pair], told: _Told, labels: Sequence[str], here: Mapping[str, float]
) -> dict[str, ExpectedOf]:
    found, chances = told.found, told.chances
    of_each = {}
    for at, pair in enumerate(target):
        points = Counter({name: float(p) for name, p in zip(labels, found.drivers[at], strict=True)})
        strongest = sorted(points.items(), key=lambda item: -abs(item[1]))[:_DRIVERS]
        of_each[pair.model] = ExpectedOf(
            accuracy=float(found.accuracy[at]),
            interval=(float(found.low[at]), float(found.high[at])),
            probability_best=chances[pair.model],
            drivers=tuple(Driver(name=name, points=p) for name, p in strongest if abs(p) >= _LEAST_POINTS),
            measured=here.get(pair.model),
        )
    return of_each


def _chances(found: Foretold, places: Sequence[int], target: Sequence[Pair]) -> dict[str, float]:
    """Share of joint draws in which each of the models at these places is the best of them."""
    import numpy as np

    if not len(places):
        return {}
    merit, apart = found.merit[list(places)], found.apart[np.ix_(list(places), list(places))]
    best, variance = int(np.argmax(merit)), np.diag(apart)
    error = np.sqrt(np.maximum(variance + variance[best] - 2 * apart[best], 0.0))
    near = np.flatnonzero(merit[best] - merit <= BEYOND * error)  # others are the best in no draw
    values, vectors = np.linalg.eigh(apart[np.ix_(near, near)])
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = merit[near, None] + root @ np.random.default_rng(SEED).standard_normal((len(values), DRAWS))
    shares = np.zeros(len(merit))
    shares[near] = np.bincount(np.argmax(draws, axis=0), minlength=len(near)) / DRAWS
    return {target[place].model: float(share) for place, share in zip(places, shares, strict=True)}


def _ties(target: Sequence[Pair], found: Foretold) -> dict[str, tuple[str, ...]]:
    """Models whose difference from this one lies within its own error at 90 %."""
    import numpy as np

    variance = np.diag(found.apart)
    error = np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * found.apart, 0.0))
    tied = np.abs(found.merit[:, None] - found.merit[None, :]) <= 1.6449 * error
    np.fill_diagonal(tied, val=False)
    order = np.argsort(-found.merit, kind="stable")
    names = np.array([p.model for p in target], dtype=object)[order]
    return {p.model: tuple(names[tied[i, order]]) for i, p in enumerate(target)}


def _warnings(fitted: Fitted, target: Sequence[Pair], probe: str | None) -> tuple[str, ...]:
    if probe is None:
        return ("No probe of the frozen features was scored: the level of accuracy is little more than a guess.",)
    import numpy as np

    from service.recommendations.table import logit, share

    low, high = fitted.level_range
    outside = sum(not low - 0.25 <= float(logit(p.probes[probe])) <= high + 0.25 for p in target)
    if not outside:
        return ()
    said = (
        f"Outside anything seen: {outside} of {len(target)} candidates have a {probe} beyond the "
        f"{float(share(np.array(low))):.0%} to {float(share(np.array(high))):.0%} of those that this was learned from, "
        "and their expected accuracy is extrapolated."
    )
    return (said,)
