"""What a ranking still has to compute. Pure: rows in, groups of models out."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from service.datasets.names import Split


@dataclass(frozen=True, slots=True)
class Candidate:
    model_id: str
    signature: str  # models that share it share the decoding of every image
    params: int | None


def group(candidates: Iterable[Candidate], /, *, models_per_task: int) -> list[list[str]]:
    """Tasks as lists of model ids: one preprocessing signature each, the cheapest models first."""
    by_signature: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_signature.setdefault(candidate.signature, []).append(candidate)
    groups: list[tuple[float, list[str]]] = []
    for members in by_signature.values():
        members.sort(key=_cost)
        for start in range(0, len(members), models_per_task):
            chunk = members[start : start + models_per_task]
            groups.append((_cost(chunk[0])[0], [c.model_id for c in chunk]))
    return [ids for _, ids in sorted(groups, key=lambda pair: (pair[0], pair[1]))]


def _cost(candidate: Candidate) -> tuple[float, str]:
    return (float("inf") if candidate.params is None else float(candidate.params), candidate.model_id)


def split_to_score(splits: Collection[Split], /) -> Split:
    """Which images a ranking looks at: the training split, so that test labels leak into no score.

    A dataset without one is scored on what it has, and the ranking says so.
    """
    order: tuple[Split, ...] = ("train", "validation", "test")
    return next(split for split in order if split in splits)
