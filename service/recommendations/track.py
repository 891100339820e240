"""How well each estimator and the recommendation have done on the project's own outcomes, so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy.orm import Session

from service.recommendations.gather import Known, Own, known
from service.recommendations.model import Agreement, AgreementOf, Kind, OnDataset


def agreement(session: Session, project_id: str, /) -> Agreement:
    """Every foretelling of a dataset is made without its outcomes; estimators never see an outcome at all."""
    from service.recommendations.agreement import LEAST

    held = known(session, project_id)
    total = held.outcomes
    useful = [own for own in held.own if own.scored and len(_truth(own)) >= LEAST]
    found: dict[tuple[str, Kind], list[OnDataset]] = defaultdict(list)
    for own in useful:
        for name, values in _columns(own).items():
            entry = _on(own, values)
            if entry is not None:
                found[name, "size" if name == "model size" else "estimator"].append(entry)
    for name, entries in _recommended(held, useful).items():
        found[name, "recommendation"] += entries
    rows = [_mean(name, kind, entries) for (name, kind), entries in found.items()]
    rows.sort(key=lambda row: (row.tau is None, -(row.tau or 0.0), row.name))
    return Agreement(
        outcomes=total, datasets=len(useful), entries=tuple(rows), said=_said(total, len(useful), len(rows))
    )


def _truth(own: Own) -> dict[str, float]:
    scores = own.scored.scores if own.scored else {}
    return {o.model: o.accuracy for o in own.outcomes if o.model in scores}


def _columns(own: Own) -> dict[str, dict[str, float]]:
    """Of each estimator, and of the size, the values of the models that have both; larger is better."""
    columns: dict[str, dict[str, float]] = defaultdict(dict)
    if own.scored is None:
        return columns
    for model in _truth(own):
        for name, value in own.scored.scores[model].items():
            columns[name][model] = value
        if size := own.scored.params.get(model):
            columns["model size"][model] = float(size)
    return columns


def _on(own: Own, values: Mapping[str, float]) -> OnDataset | None:
    import numpy as np

    from service.recommendations.agreement import LEAST, regret, weighted_tau

    truth = _truth(own)
    models = [model for model in truth if model in values]
    told, there = np.array([values[m] for m in models]), np.array([truth[m] for m in models])
    if len(models) < LEAST or np.ptp(there) == 0:
        return None
    tau = weighted_tau(told, there)
    return OnDataset(
        dataset=own.outcomes[-1].dataset,
        dataset_id=own.dataset_id,
        recipe=own.outcomes[-1].recipe,
        models=len(models),
        tau=tau if np.isfinite(tau) else None,
        regret_1=regret(told, there, 1),
        regret_3=regret(told, there, 3),
    )


def _recommended(held: Known, useful: list[Own]) -> dict[str, list[OnDataset]]:
    """The recommendation and its two halves, each dataset foretold by what is known of the others."""
    from service.recommendations.together import left_out

    names = {"together": "recommendation", "evidence": "its evidence alone", "prior": "its records alone"}
    found: dict[str, list[OnDataset]] = defaultdict(list)
    for own, parts in left_out(held, useful):
        for part, (tau, first, third) in parts.items():
            entry = OnDataset(
                dataset=own.outcomes[-1].dataset,
                dataset_id=own.dataset_id,
                recipe=own.outcomes[-1].recipe,
                models=len(_truth(own)),
                tau=tau,
                regret_1=first,
                regret_3=third,
            )
            found[names[part]].append(entry)
    return found


def _mean(name: str, kind: Kind, entries: list[OnDataset]) -> AgreementOf:
    import numpy as np

    from service.recommendations.agreement import mean_and_interval

    taus = np.array([np.nan if e.tau is None else e.tau for e in entries])
    mean, low, high = mean_and_interval(taus)
    return AgreementOf(
        name=name,
        kind=kind,
        datasets=len(entries),
        pairs=sum(e.models for e in entries),
        tau=mean if np.isfinite(mean) else None,
        tau_interval=(low, high) if np.isfinite(low) else None,
        regret_1=float(np.mean([e.regret_1 for e in entries])) if entries else None,
        regret_3=float(np.mean([e.regret_3 for e in entries])) if entries else None,
        by_dataset=tuple(entries),
    )


def _said(total: int, useful: int, rows: int) -> tuple[str, ...]:
    if not useful:
        said = (
            f"{total} outcomes, but no dataset with three fine-tuned models that a finished ranking scored: "
            "`zooscout finetune` measures models, `zooscout outcomes add` records what was measured elsewhere."
        )
        return (said,)
    lines = [f"{useful} datasets with three fine-tuned models or more, of {total} outcomes."]
    if useful < 5 and rows:
        lines.append("So few datasets do not tell estimators apart: look at the intervals, and record more.")
    return tuple(lines)
