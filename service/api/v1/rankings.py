"""Rankings."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep, ReaderDep
from service.api.etags import MatchDep
from service.api.once import Made, OnceDep
from service.api.quotas import check_tasks
from service.core.pagination import MAX_LIMIT
from service.jobs import repository as jobs
from service.rankings import service as rankings
from service.rankings.schemas import RankingCreate, RankingPage, RankingView

router = APIRouter(tags=["rankings"])


@router.post("/rankings", status_code=202, summary="Rank models on a dataset")
def create_ranking(app: AppDep, project: ProjectDep, body: RankingCreate, once: OnceDep) -> RankingView:
    """Accepted at once; follow it at the address in Location."""

    def act(session: Session) -> Made[RankingView]:
        row = rankings.create(session, project, body)
        check_tasks(session, project, app.settings.quotas)
        return Made(rankings.show(session, project, row.id), 202, f"/v1/rankings/{row.id}")

    return once.do(body, act)


@router.get("/rankings", summary="List rankings, newest first", response_model=RankingPage)
def list_rankings(
    reader: ReaderDep,
    dataset: Annotated[str | None, Query(max_length=100, description="id of a dataset")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    return reader.show(
        lambda session, project: rankings.list_rankings(
            session, project, limit=limit, cursor=cursor, dataset_id=dataset
        )
    )


@router.get("/rankings/{ranking}", summary="State, progress and entries of a ranking", response_model=RankingView)
def show_ranking(reader: ReaderDep, ranking: str) -> Response:
    return reader.show(lambda session, project: rankings.show(session, project, ranking))


@router.post("/rankings/{ranking}/cancel", summary="Stop a ranking and keep what was scored")
def cancel_ranking(app: AppDep, project: ProjectDep, ranking: str, once: OnceDep) -> RankingView:
    """Its state is then `cancelled`, and models that had no score yet are failed with that reason. One that has ended
    stays as it is.
    """

    def act(session: Session) -> Made[RankingView]:
        rankings.cancel(session, project, ranking)
        return Made(rankings.show(session, project, ranking), 200, f"/v1/rankings/{ranking}")

    return once.do(ranking, act)


@router.delete("/rankings/{ranking}", status_code=204, summary="Remove a ranking; stop it if it runs")
def remove_ranking(app: AppDep, project: ProjectDep, ranking: str, match: MatchDep) -> None:
    with app.database.write() as session:
        match.check(session, lambda session: rankings.show(session, project, ranking))
        rankings.remove(session, project, ranking)
        jobs.enqueue_collection(session, project)
