"""Measured accuracies after fine-tuning, for both clients."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from service.client.flows import Flow, Upload, ask, paged
from service.outcomes.schemas import OutcomeCreate


@dataclass(frozen=True, slots=True)
class Outcome:
    id: str
    dataset: str
    dataset_id: str | None
    fingerprint: str | None
    model: str
    model_id: str | None
    weights_sha256: str | None
    extractor_id: str | None
    accuracy: float
    n_test: int | None
    interval: tuple[float, float] | None
    recipe: str
    source: str
    version: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Outcomes:
    items: tuple[Outcome, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class OutcomesAdded:
    added: int
    superseded: int
    unchanged: int
    unknown_datasets: tuple[str, ...]
    unknown_models: tuple[str, ...]
    items: tuple[Outcome, ...]


def add_outcome(outcome: OutcomeCreate, /) -> Flow[OutcomesAdded]:
    """Records one; it supersedes an earlier one of the same dataset, model and recipe."""
    return ask(OutcomesAdded, "POST", "/v1/outcomes", json=outcome.model_dump(exclude_none=True))


def import_outcomes(path: str | Path, /) -> Flow[OutcomesAdded]:
    """Records every row of a CSV (dataset, model, accuracy and, where known, n_test, recipe, source), or none."""
    headers = {"Content-Type": "text/csv"}
    return ask(OutcomesAdded, "POST", "/v1/outcomes", upload=Upload(Path(path)), headers=headers)


def outcome(ident: str, /) -> Flow[Outcome]:
    return ask(Outcome, "GET", f"/v1/outcomes/{ident}")


def outcomes(
    *,
    dataset: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    history: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Flow[Outcomes]:
    """Newest first; with `history` also what a later version superseded."""
    query = paged(limit, cursor, dataset=dataset, model=model, recipe=recipe, history=history)
    return ask(Outcomes, "GET", "/v1/outcomes", params=query)
