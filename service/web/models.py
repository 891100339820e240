"""Pages of the catalog."""

import re
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from service.api.deps import AppDep, ProjectDep
from service.api.quotas import check_tasks
from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from service.models import service as catalog
from service.models.schemas import ImportRequest, ModelCreate, ModelFilter, SortKey
from service.outcomes import service as outcomes
from service.rankings.standings import newest_standings
from service.web.contexts import ModelPage, ModelsPage
from service.web.forms import FormDep, judged
from service.web.rendering import render
from zoo.catalog import ModelCard
from zoo.snippet import snippet

router = APIRouter()
LISTED = 100
RECORDS = 8
FIELDS = (
    "name", "text", "library", "modality", "family", "licence", "pretrained_on", "min_params", "max_params",
    "input_size", "max_input_size", "state", "quarantined",
)  # fmt: skip
OWN_FIELDS = (
    "name", "library", "architecture", "weights", "match", "input_size", "mean", "std", "licence", "pretrained_on",
    "imagenet_top1",
)  # fmt: skip
MILLION = 1_000_000


def filter_of(request: Request, /) -> ModelFilter:
    """What a form of filters asks for: fields that are left empty ask for nothing. Parameters are in millions there."""
    given = {name: value for name in FIELDS if (value := request.query_params.get(name, "").strip())}
    for name in ("min_params", "max_params"):
        if name in given:
            try:
                given[name] = str(round(float(given[name]) * MILLION))
            except (ValueError, OverflowError):
                continue  # the schema says what is wrong with it
    return judged(ModelFilter, given)


@router.get("/models")
def list_models(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    sort: SortKey = "name",
    descending: bool = False,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> HTMLResponse:
    wanted = filter_of(request)
    with app.database.read() as session:
        found = catalog.list_models(
            session, project, wanted, sort=sort, descending=descending, limit=LISTED, cursor=cursor
        )
    asked = {name: value for name in FIELDS if (value := request.query_params.get(name))}
    page = ModelsPage(
        models=found.items,
        wanted=wanted,
        total=found.total,
        sort=sort,
        descending=descending,
        following=found.next_cursor,
        address=f"/models?{urlencode(asked)}&" if asked else "/models?",
    )
    return render(request, "models.html", page)


@router.get("/models/{model}")
def show_model(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    model: str,
    before: Annotated[str | None, Query(max_length=40)] = None,
) -> HTMLResponse:
    with app.database.read() as session:
        view = catalog.show(session, project, model)
        record, earlier = newest_standings(session, project, view.id, limit=RECORDS, before=before)
        page = ModelPage(
            model=view,
            snippet=snippet(ModelCard.from_json(view.card)),
            record=record,
            earlier=earlier,
            outcomes=outcomes.list_outcomes(session, project, limit=RECORDS, model=view.id).items,
        )
    return render(request, "model.html", page)


@router.post("/models")
def add_model(app: AppDep, project: ProjectDep, form: FormDep) -> RedirectResponse:
    given: dict[str, Any] = form.filled(*OWN_FIELDS)
    given |= {name: re.split(r"[,\s]+", given[name]) for name in ("mean", "std") if name in given}
    body = judged(ModelCreate, given)
    with app.database.write() as session:
        view = catalog.register(session, project, body)
        check_tasks(session, project, app.settings.quotas)
    return RedirectResponse(f"/models/{view.id}?added=1", status_code=303)


@router.post("/models/import")
def import_models(app: AppDep, project: ProjectDep, form: FormDep) -> RedirectResponse:
    body = judged(ImportRequest, form.filled("source", "filter"))
    with app.database.write() as session:
        jobs.enqueue(session, project_id=project, kind=TaskKind.IMPORT, subject_id=project, payload=body.model_dump())
        check_tasks(session, project, app.settings.quotas)
    return RedirectResponse("/models", status_code=303)


@router.post("/models/{model}/release")
def release_model(app: AppDep, project: ProjectDep, model: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        view = catalog.release(session, project, model)
    return RedirectResponse(f"/models/{view.id}", status_code=303)
