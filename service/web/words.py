"""What a ranking says, in sentences, and how far its estimators agree. Pure."""

from collections.abc import Mapping, Sequence
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
    if view.state == "cancelled":
        return [
            f"The best so far is {first.model}.",
            f"The ranking was cancelled with {len(ranked)} of {len(view.entries)} models scored.",
        ]
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
    said = f"{times:.2g}" if times < 100 else f"{times:.0f}"
    return [f"Of these {model} is the smallest, {said} × smaller than the first."] if times >= MUCH_SMALLER else []


def agreement(found: Mapping[str, Mapping[str, float]], /) -> Agreement | None:
    """Of values by estimator and model; None where there is nothing to compare."""
    import numpy as np

    values = {name: _signed(name, of) for name, of in found.items() if len(of) >= FEW}
    if len(values) < 2:
        return None
    models = sorted(set[str]().union(*values.values()))
    table = np.array([[found.get(model, np.nan) for model in models] for found in values.values()])
    a, b = np.triu_indices(len(models), 1)
    gaps = table[:, a] - table[:, b]
    known = np.isfinite(gaps).astype(np.float32)
    order = np.sign(np.nan_to_num(gaps)).astype(np.float32)
    untied = np.abs(order) @ known.T  # pairs of models that both estimators have and the first tells apart
    scale = np.sqrt(untied.astype(np.float64) * untied.T)
    present = np.isfinite(table).astype(np.int64)
    enough = (present @ present.T >= FEW) & (scale > 0)
    taus = np.divide(order @ order.T, scale, out=np.zeros_like(scale), where=enough)
    return Agreement(
        list(values),
        [
            [float(tau) if some else None for tau, some in zip(*row, strict=True)]
            for row in zip(taus, enough, strict=True)
        ],
    )


def _signed(name: str, values: Mapping[str, float]) -> dict[str, float]:
    sign = -1.0 if SPECS[name].direction is Direction.LOWER_IS_BETTER else 1.0
    return {model: sign * value for model, value in values.items()}
