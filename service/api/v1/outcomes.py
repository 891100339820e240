"""What fine-tuning gave: measured accuracies of models on datasets."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep
from service.api.once import Made, Once, OnceDep
from service.core.pagination import MAX_LIMIT
from service.outcomes import files
from service.outcomes import service as outcomes
from service.outcomes.schemas import OutcomeCreate, OutcomePage, OutcomesAdded, OutcomeView

router = APIRouter(tags=["outcomes"])
_CSV = "text/csv"
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "one outcome as JSON; or a CSV with the columns dataset, model, accuracy and, where known, "
        "n_test, recipe, source, sent as text/csv",
        "content": {
            "application/json": {"schema": OutcomeCreate.model_json_schema()},
            _CSV: {"schema": {"type": "string", "example": "dataset,model,accuracy\nflowers,resnet18.a1_in1k,0.913\n"}},
        },
    }
}


@router.post("/outcomes", status_code=201, summary="Record what fine-tuning gave", openapi_extra=_BODY)
async def record_outcomes(request: Request, project: ProjectDep, once: OnceDep) -> OutcomesAdded:
    """All rows of a CSV are recorded, or none. Nothing is overwritten: a later version supersedes an earlier one."""
    body = await request.body()
    as_csv = request.headers.get("content-type", "").partition(";")[0].strip().lower() == _CSV
    return await run_in_threadpool(_record, project, once, body, as_csv)


def _record(project: str, once: Once, body: bytes, as_csv: bool) -> OutcomesAdded:
    given = files.read(body) if as_csv else [_one(body)]

    def act(session: Session) -> Made[OutcomesAdded]:
        made = outcomes.record(session, project, given)
        return Made(made, 201, "/v1/outcomes" if as_csv else f"/v1/outcomes/{made.items[0].id}")

    return once.do(hashlib.sha256(body).hexdigest(), act)


def _one(body: bytes) -> OutcomeCreate:
    try:
        return OutcomeCreate.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error


@router.get("/outcomes", summary="List outcomes, newest first")
def list_outcomes(
    app: AppDep,
    project: ProjectDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
    dataset: Annotated[str | None, Query(max_length=300, description="id, name or fingerprint")] = None,
    model: Annotated[str | None, Query(max_length=300, description="id or name")] = None,
    recipe: Annotated[str | None, Query(max_length=200)] = None,
    history: Annotated[bool, Query(description="also what a later version superseded")] = False,
) -> OutcomePage:
    with app.database.read() as session:
        return outcomes.list_outcomes(
            session,
            project,
            limit=limit,
            cursor=cursor,
            dataset=dataset,
            model=model,
            recipe=recipe,
            history=history,
        )


@router.get("/outcomes/{outcome}", summary="Show an outcome")
def show_outcome(app: AppDep, project: ProjectDep, outcome: str) -> OutcomeView:
    with app.database.read() as session:
        return outcomes.show(session, project, outcome)
