"""Fine-tuning by the service, for both clients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.client.both import Both
from service.client.flows import Flow, ask, tell, wait
from service.client.results import ENDED
from service.finetunings.schemas import RecipeName


@dataclass(frozen=True, slots=True)
class FinetuningResult:
    """Of one model; either `accuracy` or `error` is there."""

    model: str
    accuracy: float | None
    interval: tuple[float, float] | None
    probe: float | None
    learning_rate: float | None
    epoch: int | None
    seconds: float | None
    outcome_id: str | None
    measured_before: bool
    error: str | None


@dataclass(frozen=True, slots=True)
class FinetuningPlan:
    recipe: Mapping[str, Any]
    train: int
    test: int
    tested_on: str
    sampled: bool


@dataclass(frozen=True, slots=True)
class Finetuning:
    id: str
    state: str
    dataset: str
    dataset_id: str
    models: tuple[str, ...]
    recipe: str
    budget_seconds: float | None
    plan: FinetuningPlan | None
    progress: Mapping[str, Any]
    results: tuple[FinetuningResult, ...]
    error: Mapping[str, Any] | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def start_finetuning(
    dataset: str, models: Sequence[str], /, *, recipe: RecipeName = "default", budget_seconds: float | None = None
) -> Flow[Finetuning]:
    """Asks for models, by name or id, to be trained on a dataset; each accuracy is recorded as an outcome."""
    body = {"dataset": dataset, "models": list(models), "recipe": recipe, "budget_seconds": budget_seconds}
    return ask(Finetuning, "POST", "/v1/finetunings", json=body)


def finetuning(ident: str, /) -> Flow[Finetuning]:
    return ask(Finetuning, "GET", f"/v1/finetunings/{ident}")


def finetune(
    dataset: str,
    models: Sequence[str],
    /,
    *,
    recipe: RecipeName = "default",
    budget_seconds: float | None = None,
    timeout_seconds: float | None = None,
) -> Flow[Finetuning]:
    """The same, waited for."""
    asked = yield from start_finetuning(dataset, models, recipe=recipe, budget_seconds=budget_seconds)
    return (yield from wait(lambda: finetuning(asked.id), lambda found: found.ended, timeout_seconds))


def remove_finetuning(ident: str, /) -> Flow[None]:
    """Stops it and forgets it; the outcomes that it has recorded stay."""
    return tell("DELETE", f"/v1/finetunings/{ident}")


class FinetuningEndpoints:
    start_finetuning = Both(start_finetuning)
    finetuning = Both(finetuning)
    finetune = Both(finetune)
    remove_finetuning = Both(remove_finetuning)
