"""What a ranking still has to compute. Pure: rows in, groups of models out."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from service.datasets.names import Split


@dataclass(frozen=True, slots=True)
class Candidate:
    model_id: str
    signature: str  # models that share it share the decoding of every image
    params: int | None


def group(candidates: Iterable[Candidate], /, *, models_per_task: int, workers: int = 1) -> list[list[str]]:
    """Tasks as lists of model ids: those of one preprocessing signature together, the cheapest first.

    A task reads and decodes every image once, whatever the number of its signatures, so that tasks are as large as
    they may be; but no worker is left without one.
    """
    by_signature: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        by_signature.setdefault(candidate.signature, []).append(candidate)
    for members in by_signature.values():
        members.sort(key=_cost)
    ordered = [c.model_id for members in sorted(by_signature.values(), key=lambda m: _cost(m[0])) for c in members]
    size = max(1, min(models_per_task, -(-len(ordered) // max(1, workers))))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def n_shards(images: int, /, *, images_per_task: int) -> int:
    """In how many shards a dataset is dealt: a number that keeps each of its ten blocks in one, where it can."""
    least = -(-images // images_per_task)
    return next((n for n in (1, 2, 5) if n >= least), 10 * -(-least // 10))


def _cost(candidate: Candidate) -> tuple[float, str]:
    return (float("inf") if candidate.params is None else float(candidate.params), candidate.model_id)


def split_to_score(splits: Collection[Split], /) -> Split:
    """Which images a ranking looks at: the training split, so that test labels leak into no score.

    A dataset without one is scored on what it has, and the ranking says so.
    """
    order: tuple[Split, ...] = ("train", "validation", "test")
    return next(split for split in order if split in splits)
