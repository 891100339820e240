"""What can be done with prescores, one transaction each. Which pairs they compute is planned by a worker."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import InvalidRequest
from service.core.pagination import MAX_LIMIT
from service.datasets import repository as datasets
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind
from service.keys.repository import lock_project
from service.models import service as catalog
from service.models.schemas import ModelFilter
from service.prescores import repository
from service.prescores.schemas import ChangePage, PairPage, PrescoreCreate, PrescorePage, PrescoreView
from service.prescores.tables import PrescoreRow
from service.prescores.views import change_view, pair_view, prescore_views
from service.rankings import repository as ranking_rows
from service.rankings import service as rankings


@dataclass(frozen=True, slots=True)
class Asked:
    row: PrescoreRow
    already_under_way: bool


def create(session: Session, project_id: str, request: PrescoreCreate, /) -> Asked:
    """Accepts a prescore that has something to look at; one that asks for the same and is under way goes on.

    Raises:
        InvalidRequest: No sealed dataset or no model is meant.
    """
    if not repository.sealed_datasets(session, project_id, request.datasets):
        named = "matches" if request.datasets else "is there: upload one first"
        raise InvalidRequest(f"No sealed dataset {named}.")
    catalog.resolve_candidates(session, project_id, request.models if request.models is not None else ModelFilter())
    lock_project(session, project_id)
    running = repository.under_way(session, project_id, _stored(request))
    if running is not None:
        return Asked(running, already_under_way=True)
    return Asked(ask(session, project_id, request), already_under_way=False)


def _stored(request: PrescoreCreate) -> dict[str, Any]:
    return request.model_dump(mode="json", exclude_none=True)


def ask(session: Session, project_id: str, request: PrescoreCreate, /, *, scheduled: bool = False) -> PrescoreRow:
    """The same, where nothing to do is no mistake."""
    row = repository.add(session, project_id, _stored(request), scheduled=scheduled)
    jobs.enqueue(
        session,
        project_id=row.project_id,
        kind=TaskKind.PRESCORE,
        subject_id=row.id,
        payload={},
        priority=Priority.CONTROL,
    )
    return row


def fail(session: Session, project_id: str, ident: str, problem: Mapping[str, Any], /) -> None:
    row = repository.find(session, project_id, ident)
    if row is not None and row.state != "done":
        row.state, row.error, row.finished_at = "failed", dict(problem), utc_now()


def show(session: Session, project_id: str, ident: str, /) -> PrescoreView:
    return prescore_views(session, [repository.get(session, project_id, ident)])[0]


def list_prescores(session: Session, project_id: str, /, *, limit: int = 50, cursor: str | None = None) -> PrescorePage:
    page = repository.list_page(session, project_id, limit=min(limit, MAX_LIMIT), cursor=cursor)
    return PrescorePage(items=prescore_views(session, page.items), next_cursor=page.next_cursor)


def pairs(
    session: Session,
    project_id: str,
    ident: str,
    /,
    *,
    limit: int = 100,
    cursor: str | None = None,
    state: str | None = None,
) -> PairPage:
    row = repository.get(session, project_id, ident)
    page = repository.pairs_page(session, row.id, limit=min(limit, MAX_LIMIT), cursor=cursor, state=state)
    return PairPage(items=[pair_view(found) for found in page.items], next_cursor=page.next_cursor)


def changes(
    session: Session,
    project_id: str,
    /,
    *,
    limit: int = 50,
    cursor: str | None = None,
    dataset: str | None = None,
    prescore: str | None = None,
    since: datetime | None = None,
) -> ChangePage:
    """Newest first."""
    if since is not None and since.tzinfo is None:
        raise InvalidRequest("`since` needs a time zone, such as 2026-11-21T10:00:00Z.")
    dataset_id = None if dataset is None else datasets.get(session, project_id, dataset).id
    if prescore is not None:
        repository.get(session, project_id, prescore)
    page = repository.changes_page(
        session,
        project_id,
        limit=min(limit, MAX_LIMIT),
        cursor=cursor,
        dataset_id=dataset_id,
        prescore_id=prescore,
        since=since,
    )
    named = datasets.by_ids(session, project_id, list({row.dataset_id for row in page.items}))
    items = [change_view(row, named[row.dataset_id].name) for row in page.items if row.dataset_id in named]
    return ChangePage(items=items, next_cursor=page.next_cursor)


def remove(session: Session, project_id: str, ident: str, /) -> None:
    """Removes the record and stops what it has not done; scores, embeddings and finished rankings stay."""
    row = repository.get(session, project_id, ident, lock=True)
    for ranking_id, state in repository.rankings_of(session, row.id).items():
        if state not in ranking_rows.ENDED:
            rankings.remove(session, project_id, ranking_id)
    jobs.cancel_subject(session, row.id)
    jobs.delete_subject(session, row.id)
    session.delete(row)
