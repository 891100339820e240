"""From what is known of each candidate to an order, with reasons. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from service.recommendations.model import Constraints, EvidenceOf, Excluded, ExpectedOf, PriorOf, Recommended
from zoo.catalog import Modality

DRAWS = 20_000
SEED = 20_261_121
BEYOND = 4.1  # errors of a difference
BYTES_PER_WEIGHT = 4
_ONE: Mapping[Modality, str] = {"image": "an image", "text": "a text"}
_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    model: str
    model_id: str
    params: int | None
    input_size: int
    milliseconds: float | None
    licence: str | None
    evidence: EvidenceOf | None
    prior: PriorOf | None
    expected: ExpectedOf | None = None
    forward_bytes: int | None = None
    merit: float | None = None  # what orders, where accuracies are foretold
    tied_with: tuple[str, ...] = ()
    replicates: tuple[float, ...] = ()  # of its score, by block of images left out


def refusal(candidate: Candidate, wanted: Constraints, /, *, of: Modality = "image") -> str | None:
    """Why it does not meet the constraints; what is not known does not meet one."""
    bounds = (
        ("parameters", candidate.params, wanted.max_params),
        ("pixels of input", candidate.input_size, wanted.max_input_size),
        (f"ms {_ONE[of]}", candidate.milliseconds, wanted.max_milliseconds),
        ("bytes of weights", weights_bytes(candidate.params), wanted.max_weights_bytes),
        ("bytes of a forward pass", candidate.forward_bytes, wanted.max_forward_bytes),
    )
    for name, value, most in bounds:
        if most is not None and value is None:
            return f"its {name} are not known"
        if most is not None and value is not None and value > most:
            return f"{value:,.6g} {name}, more than {most:,.6g}"
    if wanted.licence is not None and (candidate.licence or "").lower() != wanted.licence.lower():
        return f"its licence is {candidate.licence or 'not known'}"
    return None


def weights_bytes(params: int | None, /) -> int | None:
    """In float32."""
    return None if params is None else BYTES_PER_WEIGHT * params


def ordered(
    candidates: Sequence[Candidate],
    wanted: Constraints,
    /,
    *,
    larger_is_better: bool = True,
    of: Modality = "image",
) -> tuple[list[Recommended], list[Excluded]]:
    """By what is foretold where anything is, else by evidence where any candidate has it, else by the prior.

    Who lacks what the others are ordered by comes last.
    """
    reasons = {c.model_id: refusal(c, wanted, of=of) for c in candidates}
    kept = [c for c in candidates if reasons[c.model_id] is None]
    foretold = any(c.merit is not None for c in kept)
    seen = foretold or any(c.evidence for c in kept)
    sign = 1.0 if larger_is_better else -1.0

    def merit(c: Candidate) -> float | None:
        if foretold:
            return c.merit
        if seen:
            return None if c.evidence is None else sign * c.evidence.value
        return None if c.prior is None else c.prior.value

    kept.sort(key=lambda c: ((m := merit(c)) is None, -(m or 0.0), c.model))
    chances = _chances(kept, sign)
    names = {c.model for c in kept}
    front = _front([(m, c) for c in kept if (m := merit(c)) is not None])
    found = []
    for place, c in enumerate(kept, start=1):
        own = merit(c)
        found.append(
            Recommended(
                rank=place if own is not None else None,
                model=c.model,
                model_id=c.model_id,
                expected=c.expected,
                evidence=c.evidence and replace(c.evidence, probability_best=chances.get(c.model_id)),
                prior=c.prior,
                tied_with=_among(c.tied_with, names, all_left=len(kept) == len(candidates)) if seen else (),
                params=c.params,
                input_size=c.input_size,
                milliseconds=c.milliseconds,
                licence=c.licence,
                weights_bytes=weights_bytes(c.params),
                forward_bytes=c.forward_bytes,
                on_front=c.model_id in front,
                why=_why(c, by_evidence=seen),
            )
        )
    return found, [Excluded(model=c.model, reason=r) for c in candidates if (r := reasons[c.model_id]) is not None]


def ties_in_words(entries: Sequence[Recommended], /, *, of: Modality = "image") -> str | None:
    """Which of the first cannot be told apart, and which of them is the smallest."""
    if not entries or entries[0].rank is None or not entries[0].tied_with:
        return None
    group = [e for e in entries if e is entries[0] or e.model in entries[0].tied_with]
    together = [e.rank for e in group] == list(range(1, len(group) + 1))
    number = _NUMBERS[len(group)] if len(group) < len(_NUMBERS) else str(len(group))
    said = f"The first {number}" if together else f"{entries[0].model} and {', '.join(e.model for e in group[1:])}"
    said += f" cannot be told apart on these {of}s"
    sized = [e for e in group if e.params]
    small, first = min(sized, key=lambda e: e.params or 0, default=None), entries[0]
    if small is not None and small is not first and first.params and small.params:
        times = first.params / small.params
        said += f"; {small.model} is {times:.2g}" if times < 100 else f"; {small.model} is {times:.0f}"
        said += " × smaller than the first"
    return said + "."


def _among(tied: tuple[str, ...], names: AbstractSet[str], *, all_left: bool) -> tuple[str, ...]:
    return tied if all_left else tuple(name for name in tied if name in names)


def _front(merits: Sequence[tuple[float, Candidate]]) -> set[str]:
    """Ids of those that no other is at least as good, as small and as fast as: a beater comes before the beaten."""
    front: dict[str, tuple[float, ...]] = {}
    for mine, ident in sorted((((own, *_cost(c)), c.model_id) for own, c in merits), reverse=True):
        if not any(its != mine and all(i >= m for i, m in zip(its, mine, strict=True)) for its in front.values()):
            front[ident] = mine
    return set(front)


def _cost(c: Candidate) -> tuple[float, float]:
    return tuple(-float("inf") if v is None else -float(v) for v in (c.params, c.milliseconds))  # type: ignore[return-value]


def _chances(kept: Sequence[Candidate], sign: float) -> dict[str, float]:
    """Share of draws of the scores, together, in which each model's is the best; none where one states no error."""
    scored = [c for c in kept if c.evidence is not None]
    if len({len(c.replicates) for c in scored}) != 1 or len(scored) < 2 or len(scored[0].replicates) < 2:
        return {}
    import numpy as np

    left_out = np.array([c.replicates for c in scored])
    blocks = left_out.shape[1]
    centred = (left_out - left_out.mean(axis=1, keepdims=True)) * np.sqrt((blocks - 1) / blocks)
    values = np.array([c.evidence.value for c in scored if c.evidence is not None])
    # Who lies far behind is the best in no draw: of hundreds a few are left.
    best = int(np.argmax(sign * values))
    error = np.sqrt(((centred - centred[best]) ** 2).sum(axis=1))
    near = np.flatnonzero(np.abs(values - values[best]) <= BEYOND * error)
    scored, centred, values = [scored[i] for i in near], centred[near], values[near]
    draws = values[:, None] + centred @ np.random.default_rng(SEED).standard_normal((blocks, DRAWS))
    shares = np.bincount(np.argmax(sign * draws, axis=0), minlength=len(scored)) / DRAWS
    nobody = dict.fromkeys((c.model_id for c in kept if c.evidence is not None), 0.0)
    return nobody | {c.model_id: float(share) for c, share in zip(scored, shares, strict=True)}


def prior_in_words(prior: PriorOf, /) -> str:
    """An accuracy where outcomes on the dataset tell its level, else a standing."""
    return f"{prior.value:+.2f}" if prior.accuracy is None else f"{prior.accuracy:.1%}"


def _why(c: Candidate, *, by_evidence: bool) -> str:
    said = []
    if c.expected is not None:
        low, high = c.expected.interval
        said.append(f"{c.expected.accuracy:.1%} expected ({low:.1%} to {high:.1%})")
        moved = [f"{d.name} {d.points:+.1f}" for d in c.expected.drivers]
        if moved:
            said.append(f"against the mean candidate, in points: {', '.join(moved)}")
        if c.expected.measured is not None:
            said.append(f"{c.expected.measured:.1%} measured here")
    if c.evidence is not None:
        apart = "" if c.evidence.deviations is None else f" ({c.evidence.deviations:+.1f} deviations)"
        said.append(f"{c.evidence.estimator} {c.evidence.value:.4g}{apart}")
    elif by_evidence:
        said.append("not in the ranking, or without a score in it")
    if c.prior is not None:
        on = {
            "target": "from outcomes on this dataset",
            "record": "from its record elsewhere",
            "names": "from its card and models of like names alone",
        }[c.prior.basis]
        said.append(f"prior {prior_in_words(c.prior)} {on}")
    return "; ".join(said) or "nothing is known of it"
