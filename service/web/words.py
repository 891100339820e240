"""What a ranking says, in sentences, and how far its estimators agree. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from estimators.catalog import SPECS, Direction
from service.rankings.schemas import EntryView, RankingView

NAMED = 4
MUCH_SMALLER = 1.5
FEW = 4


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's tau-b between the orders of each two estimators; None where one of them has too few values."""

    names: list[str]
    taus: list[list[float | None]]


def verdict(view: RankingView, /) -> list[str]:
    """The recommendation as one would say it; nothing while there is none."""
    ranked = [entry for entry in view.entries if entry.rank is not None]
    if not ranked or view.state in {"queued", "running"}:
        return []
    first = ranked[0]
    said = [f"Fine-tune {first.model}."]
    tied = [entry for entry in ranked if entry.model in first.tied_with]
    if tied:
        names = [entry.model for entry in tied[:NAMED]]
        rest = f" and {len(tied) - NAMED} more" if len(tied) > NAMED else ""
        verb = "is" if len(tied) == 1 else "are"
        said.append(f"{', '.join(names)}{rest} {verb} as good within error on this dataset.")
        said += _smaller(first, tied)
    elif len(ranked) > 1:
        said.append(f"{SPECS[view.ordered_by].title} puts it ahead of all {len(ranked) - 1} others by more than error.")
    failed = sum(entry.state == "failed" for entry in view.entries)
    if failed:
        said.append(f"{failed} of {len(view.entries)} models failed; the table says why.")
    return said


def _smaller(first: EntryView, tied: Sequence[EntryView]) -> list[str]:
    known = [(entry.params, entry.model) for entry in tied if entry.params]
    if not known or not first.params:
        return []
    params, model = min(known)
    times = first.params / params
    return [f"Of these {model} is the smallest, {times:.2g} × smaller than the first."] if times >= MUCH_SMALLER else []


def agreement(view: RankingView, /) -> Agreement | None:
    """None where there is nothing to compare."""
    names = [name for name in view.estimators if len(_values(view, name)) >= FEW]
    if len(names) < 2:
        return None
    values = {name: _values(view, name) for name in names}
    return Agreement(names, [[_tau(values[a], values[b]) for b in names] for a in names])


def _values(view: RankingView, name: str) -> dict[str, float]:
    sign = -1.0 if SPECS[name].direction is Direction.LOWER_IS_BETTER else 1.0
    scores = ((entry.model_id, entry.scores.get(name)) for entry in view.entries)
    return {ident: sign * score.value for ident, score in scores if score is not None and score.value is not None}


def _tau(a: dict[str, float], b: dict[str, float]) -> float | None:
    both = sorted(a.keys() & b.keys())
    if len(both) < FEW:
        return None
    import numpy as np

    x, y = np.array([a[k] for k in both]), np.array([b[k] for k in both])
    upper = np.triu_indices(len(both), 1)
    dx, dy = (np.sign(v[:, None] - v[None, :])[upper] for v in (x, y))
    untied = float(np.sqrt(np.count_nonzero(dx) * np.count_nonzero(dy)))
    return float(dx @ dy) / untied if untied else None
