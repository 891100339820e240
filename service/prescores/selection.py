"""Which pairs of a dataset and a model are computed, in which order. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from service.core.budget import Budget


@dataclass(frozen=True, slots=True)
class Pair:
    """`images` still to be embedded; `seconds` is None where nothing tells what the model costs."""

    dataset_id: str
    model_id: str
    images: int
    seconds: float | None


def cheapest_first(pairs: Iterable[Pair], /) -> list[Pair]:
    return sorted(pairs, key=lambda p: (p.seconds is None, p.seconds or 0.0, p.images, p.dataset_id, p.model_id))


def within(pairs: Iterable[Pair], budget: Budget | None, /) -> tuple[list[Pair], list[tuple[Pair, str]]]:
    """The pairs that are computed, cheapest first, and those that the budget leaves out, with the reason.

    What a pair costs in time is an estimate: one without any is begun while time lasts.
    """
    ordered = cheapest_first(pairs)
    if budget is None:
        return ordered, []
    taken: list[Pair] = []
    left: list[tuple[Pair, str]] = []
    images, seconds = 0, 0.0
    for pair in ordered:
        if budget.images is not None and images + pair.images > budget.images:
            left.append((pair, f"its {pair.images:,} images go beyond the budget of {budget.images:,}"))
        elif budget.seconds is not None and seconds + (pair.seconds or 0.0) > budget.seconds:
            left.append((pair, f"an estimated {pair.seconds:.0f} s go beyond the budget of {budget.seconds:.0f} s"))
        else:
            taken.append(pair)
            images, seconds = images + pair.images, seconds + (pair.seconds or 0.0)
    return taken, left
