"""Which candidates of a raced ranking go on to a larger sample. Pure.

The scores of a sample differ from those of all images in two ways. Its images are some of them: that error is what the
replicates' joint spread says, less what is certain because the sample is a part of the whole. And a score changes with
the number of images, for one model more than for another, which no spread over blocks of one sample can show: it is
read off the change since the rung before, goes on with less at each doubling, and is itself uncertain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

TOP_K = 3
MOST_LIKELY = 0.05  # of a candidate that is dropped: to be among the first on all images
DECAY = 0.7  # of the drift from one doubling of the sample to the next
DRAWS = 10_000
SEED = 20_261_121
FIRST_RUNG, PER_CLASS = 96, 4
LEAST_BELIEVED = 0.01  # of differences that may all be luck: everyone is then about as likely
GROWTH = 2
LEAST_CHANCE = 0.01  # of a candidate that nobody expects anything of: the cheapest of them still goes first


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A candidate's score on the rung's sample, larger being better, and on the sample of the rung before."""

    model_id: str
    value: float
    replicates: tuple[float, ...]
    before: float | None


@dataclass(frozen=True, slots=True)
class Likely:
    """What is expected of a candidate before it has seen an image, larger being better."""

    value: float
    stderr: float | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Likeliest first: those that go on, and those that do not, each with its probability to be among the first k."""

    kept: tuple[tuple[str, float], ...]
    dropped: tuple[tuple[str, float], ...]


def rungs(images: int, classes: int, /) -> list[int]:
    """Sizes of the samples, each at least double the one before; the last is all images."""
    sizes = []
    size = max(FIRST_RUNG, PER_CLASS * classes)
    while 2 * size <= images:
        sizes.append(size)
        size *= GROWTH
    return [*sizes, images]


def in_turn(costs: Mapping[str, float | None], likely: Mapping[str, Likely], /, *, k: int = TOP_K) -> list[str]:
    """Candidates, cheapest and likeliest first: by the chance to be among the first k, over the cost.

    Args:
        costs: Of every candidate, in an order that breaks ties; one that is not known is taken to be the largest.
        likely: What is expected of those of which anything is known; the others may be anything.
        k: How many are wanted.
    """
    chances = _expected_first(list(costs), likely, k)
    largest = max((cost for cost in costs.values() if cost), default=1.0)
    return sorted(costs, key=lambda ident: -(chances[ident] + LEAST_CHANCE) / (costs[ident] or largest))


def _expected_first(idents: Sequence[str], likely: Mapping[str, Likely], k: int) -> dict[str, float]:
    import numpy as np

    values = np.array([likely[ident].value for ident in idents if ident in likely])
    if not len(values) or len(idents) <= k:
        return dict.fromkeys(idents, 1.0)
    unknown = Likely(float(values.mean()), None)
    told = {ident: likely.get(ident, unknown) for ident in sorted(idents)}
    spread = float(values.std()) or 1.0
    centres = np.array([each.value for each in told.values()])
    errors = np.array([spread if each.stderr is None else each.stderr for each in told.values()])
    draws = centres + errors * np.random.default_rng(SEED).standard_normal((DRAWS, len(told)))
    last_in = -np.partition(-draws, k - 1, axis=1)[:, k - 1]
    shares = (draws >= last_in[:, None]).mean(axis=0)
    return {ident: float(share) for ident, share in zip(told, shares, strict=True)}


def judge(standings: Sequence[Standing], /, *, sample: int, before: int | None, images: int, k: int = TOP_K) -> Verdict:
    """Drops who would be among the first k on all images with a probability of 5 % or less.

    Args:
        standings: Of every candidate still in the race, on the same images and, for replicates, the same blocks.
        sample: Images of this rung.
        before: Images of the rung before, where there was one; on the first rung nobody is dropped, nor on the last.
        images: All there are.
        k: How many are wanted.
    """
    chances = probabilities(standings, sample=sample, before=before, images=images, k=k)
    ordered = sorted(standings, key=lambda s: (-chances[s.model_id], -s.value, s.model_id))
    best = {s.model_id for s in sorted(standings, key=lambda s: (-s.value, s.model_id))[:k]}
    told = before is not None and sample < images
    out = {s.model_id for s in standings if told and s.model_id not in best and chances[s.model_id] <= MOST_LIKELY}
    return Verdict(
        tuple((s.model_id, chances[s.model_id]) for s in ordered if s.model_id not in out),
        tuple((s.model_id, chances[s.model_id]) for s in ordered if s.model_id in out),
    )


def probabilities(
    standings: Sequence[Standing], /, *, sample: int, before: int | None, images: int, k: int
) -> dict[str, float]:
    """Each candidate's probability to be among the first k of them on all images."""
    import numpy as np

    n = len(standings)
    if n <= k:
        return {s.model_id: 1.0 for s in standings}
    # In a fixed order, so that the draws of a candidate do not depend on who is named first.
    ordered = sorted(standings, key=lambda s: s.model_id)
    values = np.array([s.value for s in ordered])
    if sample >= images:
        places = np.argsort(np.argsort(-values, kind="stable"), kind="stable")
        return {s.model_id: float(place < k) for s, place in zip(ordered, places, strict=True)}
    rng = np.random.default_rng(SEED)
    noise, errors = _noise(ordered, rng, share_left=1 - sample / images)
    mean, spread = _drift(ordered, values, errors, sample=sample, before=before, images=images)
    believed = _believed(values, errors, share_left=1 - sample / images)
    centre = float(np.median(values))
    likely = centre + believed * (values - centre) + mean
    draws = likely + believed**0.5 * noise + spread * rng.standard_normal((DRAWS, n))
    last_in = -np.partition(-draws, k - 1, axis=1)[:, k - 1]
    shares = (draws >= last_in[:, None]).mean(axis=0)
    return {s.model_id: float(share) for s, share in zip(ordered, shares, strict=True)}


def _noise(ordered: Sequence[Standing], rng: "np.random.Generator", /, *, share_left: float) -> "tuple[Floats, Floats]":
    """Draws `[DRAWS, n]` of what images not looked at may do to scores; the errors of the scores less their mean."""
    import numpy as np

    blocks = {len(s.replicates) for s in ordered}
    if len(blocks) != 1 or min(blocks) < 2:
        return np.zeros((DRAWS, len(ordered))), np.zeros(len(ordered))
    left_out = np.array([s.replicates for s in ordered])
    b = left_out.shape[1]
    centred = (left_out - left_out.mean(axis=1, keepdims=True)) * np.sqrt((b - 1) / b)
    # An error known from ten blocks is itself uncertain: Student's t instead of the normal distribution.
    scale = np.sqrt((b - 1) / rng.chisquare(b - 1, size=(DRAWS, 1)))
    noise = rng.standard_normal((DRAWS, b)) @ centred.T * scale * np.sqrt(share_left)
    apart = centred - centred.mean(axis=0)  # what all share moves nobody past another
    return noise, np.sqrt((apart**2).sum(axis=1))


def _believed(values: "Floats", errors: "Floats", /, *, share_left: float) -> float:
    """How much of the scores' spread is the models' own: whoever leads on a small sample leads by luck as well."""
    import numpy as np

    spread = 1.4826 * float(np.median(np.abs(values - np.median(values))))  # a hopeless candidate does not widen it
    by_luck = float(np.mean(errors**2)) * share_left
    return max(LEAST_BELIEVED, 1 - by_luck / spread**2) if spread > 0 else LEAST_BELIEVED


def _drift(
    ordered: Sequence[Standing],
    values: "Floats",
    errors: "Floats",
    /,
    *,
    sample: int,
    before: int | None,
    images: int,
) -> "tuple[Floats, float]":
    """What is expected to be added to each score on the way to all images, and how far that may be off."""
    import numpy as np

    nothing = np.zeros(len(ordered))
    earlier = [s.before for s in ordered]
    if before is None or any(value is None for value in earlier):
        return nothing, 0.0
    doublings = log2(sample / before)
    change = (values - np.array(earlier, dtype=np.float64)) / doublings
    change = change - change.mean()
    by_chance = float(np.mean(errors**2) * (sample / before - 1) / doublings**2)
    seen = float(np.mean(change**2))
    systematic = max(seen - by_chance, 0.1 * seen)
    left = log2(images / sample)
    ahead = DECAY * (1 - DECAY**left) / (1 - DECAY)
    believed = systematic / max(systematic + by_chance, 1e-300)
    return believed * ahead * change, 0.5 * ahead * systematic**0.5
