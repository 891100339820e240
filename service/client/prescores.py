"""Prescores and what they changed, for both clients."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.client.flows import Flow, Wanted, ask, paged, tell, wait
from service.client.results import ENDED
from service.models.schemas import ModelFilter
from service.prescores.schemas import PrescoreCreate


@dataclass(frozen=True, slots=True)
class PairCounts:
    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Prescore:
    id: str
    state: str
    request: Mapping[str, Any]
    scheduled: bool
    pairs: PairCounts
    images_to_embed: int
    rankings: tuple[str, ...]
    error: Mapping[str, Any] | None
    created_at: datetime
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Prescores:
    items: tuple[Prescore, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Pair:
    dataset: str
    dataset_id: str
    model: str
    model_id: str
    state: str
    reason: str | None
    images: int
    ranking: str | None


@dataclass(frozen=True, slots=True)
class Pairs:
    items: tuple[Pair, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Change:
    id: str
    dataset: str
    dataset_id: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    entered: tuple[str, ...]
    left: tuple[str, ...]
    ranking: str
    prescore: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    items: tuple[Change, ...]
    next_cursor: str | None


def start_prescore(request: PrescoreCreate, /) -> Flow[Prescore]:
    return ask(Prescore, "POST", "/v1/prescore", json=request.model_dump(mode="json", exclude_none=True))


def show_prescore(ident: str, /) -> Flow[Prescore]:
    return ask(Prescore, "GET", f"/v1/prescore/{ident}")


def prescore(
    *,
    models: Wanted | None = None,
    datasets: str | None = None,
    new: bool = False,
    budget: str | None = None,
    timeout_seconds: float | None = None,
) -> Flow[Prescore]:
    """Scores models on the project's datasets ahead of any question, and waits until that has ended.

    `models` is a glob over names, a list of ids or names, or a filter; `datasets` a glob over names. With `new`, only
    pairs that have no score yet.
    """
    wanted = ModelFilter(name=models) if isinstance(models, str) else models
    meant = wanted if wanted is None or isinstance(wanted, ModelFilter) else list(wanted)
    asked = yield from start_prescore(PrescoreCreate(models=meant, datasets=datasets, new=new, budget=budget))
    return (yield from wait(lambda: show_prescore(asked.id), lambda found: found.ended, timeout_seconds))


def prescores(*, limit: int = 50, cursor: str | None = None) -> Flow[Prescores]:
    return ask(Prescores, "GET", "/v1/prescore", params=paged(limit, cursor))


def pairs(prescore: str, /, *, state: str | None = None, limit: int = 100, cursor: str | None = None) -> Flow[Pairs]:
    """One row a pair of a model and a dataset: done, failed why, skipped why."""
    return ask(Pairs, "GET", f"/v1/prescore/{prescore}/pairs", params=paged(limit, cursor, state=state))


def remove_prescore(ident: str, /) -> Flow[None]:
    return tell("DELETE", f"/v1/prescore/{ident}")


def changes(
    *,
    dataset: str | None = None,
    prescore: str | None = None,
    since: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Flow[Changes]:
    """Datasets whose recommended top three changed, newest first."""
    moment = None if since is None else since.isoformat()
    params = paged(limit, cursor, dataset=dataset, prescore=prescore, since=moment)
    return ask(Changes, "GET", "/v1/changes", params=params)


@dataclass(frozen=True, slots=True)
class Similar:
    dataset: str
    dataset_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Signature:
    dataset_id: str
    state: str
    model: str | None
    images: int | None
    similar: tuple[Similar, ...]
    known: int | None
    seconds: float | None
    error: Mapping[str, Any] | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


def start_signature(dataset: str, /) -> Flow[Signature]:
    return ask(Signature, "POST", f"/v1/datasets/{dataset}/signature")


def signature(dataset: str, /) -> Flow[Signature]:
    return ask(Signature, "GET", f"/v1/datasets/{dataset}/signature")


def sign(dataset: str, /, *, timeout_seconds: float | None = None) -> Flow[Signature]:
    """Has one small model look at a few hundred images, and waits for the datasets that are like it."""
    asked = yield from start_signature(dataset)
    return (yield from wait(lambda: signature(asked.dataset_id), lambda found: found.ended, timeout_seconds))
