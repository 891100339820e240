"""Prescores: every model on every dataset ahead of any question, and what that changed."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep, ReaderDep
from service.api.etags import MatchDep
from service.api.once import Made, OnceDep
from service.api.quotas import check_tasks
from service.core.pagination import MAX_LIMIT
from service.prescores import service as prescores
from service.prescores.schemas import ChangePage, PairPage, PairState, PrescoreCreate, PrescorePage, PrescoreView

router = APIRouter(tags=["prescores"])


@router.post(
    "/prescore",
    status_code=202,
    summary="Score models on the project's datasets ahead of any question",
    responses={200: {"model": PrescoreView, "description": "One that asks for the same is under way: that one"}},
)
def create_prescore(app: AppDep, project: ProjectDep, body: PrescoreCreate, once: OnceDep) -> PrescoreView:
    """Every model that is meant, on every sealed dataset that is meant: cheapest first, after all that someone waits
    for. What is embedded or scored already is not computed again. Without `new`, pairs that have a score are listed as
    skipped; with it they are left out,
    and so are those that failed before.
    """

    def act(session: Session) -> Made[PrescoreView]:
        asked = prescores.create(session, project, body)
        check_tasks(session, project, app.settings.quotas)
        view = prescores.show(session, project, asked.row.id)
        return Made(view, 200 if asked.already_under_way else 202, f"/v1/prescore/{view.id}")

    return once.do(body, act)


@router.get("/prescore", summary="List prescores, newest first", response_model=PrescorePage)
def list_prescores(
    reader: ReaderDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    return reader.show(lambda session, project: prescores.list_prescores(session, project, limit=limit, cursor=cursor))


@router.get("/prescore/{prescore}", summary="How far a prescore is", response_model=PrescoreView)
def show_prescore(reader: ReaderDep, prescore: str) -> Response:
    return reader.show(lambda session, project: prescores.show(session, project, prescore))


@router.get("/prescore/{prescore}/pairs", summary="One row a pair of model and dataset", response_model=PairPage)
def list_pairs(
    reader: ReaderDep,
    prescore: str,
    state: PairState | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    return reader.show(
        lambda session, project: prescores.pairs(session, project, prescore, limit=limit, cursor=cursor, state=state)
    )


@router.delete("/prescore/{prescore}", status_code=204, summary="Remove a prescore; stop what it has not done")
def remove_prescore(app: AppDep, project: ProjectDep, prescore: str, match: MatchDep) -> None:
    """Scores, embeddings, finished rankings and what changed by them stay."""
    with app.database.write() as session:
        match.check(session, lambda session: prescores.show(session, project, prescore))
        prescores.remove(session, project, prescore)


@router.get("/changes", summary="Datasets whose recommended top three changed, newest first", response_model=ChangePage)
def list_changes(
    reader: ReaderDep,
    dataset: Annotated[str | None, Query(max_length=300, description="id or name")] = None,
    prescore: Annotated[str | None, Query(max_length=100, description="by this prescore alone")] = None,
    since: Annotated[datetime | None, Query(description="RFC 3339, with a time zone")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    """What a prescore made of a dataset's recommendation: the first three before and after it. The same is told to
    webhooks as `recommendation.changed`.
    """
    return reader.show(
        lambda session, project: prescores.changes(
            session, project, limit=limit, cursor=cursor, dataset=dataset, prescore=prescore, since=since
        )
    )
