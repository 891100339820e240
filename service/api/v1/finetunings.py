"""Fine-tuning: what rankings predict, measured."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep
from service.api.etags import MatchDep
from service.api.once import Made, OnceDep
from service.api.quotas import check_tasks
from service.finetunings import service as finetunings
from service.finetunings.schemas import FinetuningCreate, FinetuningView

router = APIRouter(tags=["outcomes"])


@router.post("/finetunings", status_code=202, summary="Fine-tune models and record what they reach")
def create_finetuning(app: AppDep, project: ProjectDep, body: FinetuningCreate, once: OnceDep) -> FinetuningView:
    """A worker trains one model after the other, after all that someone waits for, and records each accuracy as an
    outcome when it is there. What the same recipe has measured of the same weights is not measured again."""

    def act(session: Session) -> Made[FinetuningView]:
        view = finetunings.request(session, project, body)
        check_tasks(session, project, app.settings.quotas)
        return Made(view, 202, f"/v1/finetunings/{view.id}")

    return once.do(body, act)


@router.get("/finetunings/{finetuning}", summary="How far a fine-tuning is, and what it has measured")
def show_finetuning(app: AppDep, project: ProjectDep, finetuning: str) -> FinetuningView:
    """Kept as long as finished tasks are; outcomes stay."""
    with app.database.read() as session:
        return finetunings.show(session, project, finetuning)


@router.delete("/finetunings/{finetuning}", status_code=204, summary="Stop a fine-tuning and forget it")
def remove_finetuning(app: AppDep, project: ProjectDep, finetuning: str, match: MatchDep) -> None:
    """The outcomes that it has recorded stay."""
    with app.database.write() as session:
        match.check(session, lambda session: finetunings.show(session, project, finetuning))
        finetunings.remove(session, project, finetuning)
