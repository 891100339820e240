"""The catalog of pretrained models."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep, ReaderDep
from service.api.etags import MatchDep
from service.api.once import Made, OnceDep
from service.api.quotas import check_tasks
from service.core.errors import InvalidRequest
from service.core.pagination import MAX_LIMIT
from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from service.models import service as catalog
from service.models.schemas import (
    ImportAccepted,
    ImportRequest,
    ModelCreate,
    ModelFilter,
    ModelPage,
    ModelView,
    SortKey,
)
from service.prescores import service as prescores
from service.prescores.schemas import PrescoreCreate
from service.rankings import service as rankings

router = APIRouter(tags=["models"])


async def filter_from_query(
    name: Annotated[str | None, Query(description="glob over names", max_length=300)] = None,
    text: Annotated[str | None, Query(description="words the card must contain", max_length=300)] = None,
    library: Annotated[str | None, Query(pattern="^(timm|open_clip|open_clip_text|transformers)$")] = None,
    modality: Annotated[str | None, Query(pattern="^(image|text)$", description="what they are given")] = None,
    family: Annotated[str | None, Query(max_length=100)] = None,
    licence: Annotated[str | None, Query(max_length=200)] = None,
    pretrained_on: Annotated[str | None, Query(max_length=300)] = None,
    min_params: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    max_params: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    input_size: Annotated[int | None, Query(ge=1, le=8192)] = None,
    max_input_size: Annotated[int | None, Query(ge=1, le=8192)] = None,
    state: Annotated[str | None, Query(pattern="^(unresolved|ready|failed)$")] = None,
    quarantined: Annotated[bool | None, Query(description="those that rankings skip, or those they do not")] = None,
    tag: Annotated[list[str] | None, Query(description="key=value, repeatable")] = None,
) -> ModelFilter:
    pairs = dict(_pair(text) for text in tag or [])
    return ModelFilter.model_validate(
        {
            "name": name,
            "text": text,
            "library": library,
            "modality": modality,
            "family": family,
            "licence": licence,
            "pretrained_on": pretrained_on,
            "min_params": min_params,
            "max_params": max_params,
            "input_size": input_size,
            "max_input_size": max_input_size,
            "state": state,
            "quarantined": quarantined,
            "tags": pairs,
        }
    )


def _pair(text: str) -> tuple[str, str]:
    key, sep, value = text.partition("=")
    if not sep or not key:
        raise InvalidRequest(f"A tag is written key=value, not '{text}'.")
    return key, value


@router.get("/models", summary="List models", response_model=ModelPage)
def list_models(
    reader: ReaderDep,
    wanted: Annotated[ModelFilter, Depends(filter_from_query)],
    sort: SortKey = "name",
    descending: bool = False,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    return reader.show(
        lambda session, project: catalog.list_models(
            session, project, wanted, sort=sort, descending=descending, limit=limit, cursor=cursor
        )
    )


@router.post("/models", status_code=201, summary="Register a model of your own")
def add_model(app: AppDep, project: ProjectDep, body: ModelCreate, once: OnceDep) -> ModelView:
    """The model is `unresolved` until a worker has fetched its weights and proved that they fit."""

    def act(session: Session) -> Made[ModelView]:
        view = catalog.register(session, project, body)
        if body.prescore:
            prescores.ask(session, project, PrescoreCreate(models=[view.id], new=True))
        check_tasks(session, project, app.settings.quotas)
        return Made(view, 201, f"/v1/models/{view.id}")

    return once.do(body, act)


@router.post("/models/import", status_code=202, summary="Import cards from an installed registry")
def import_models(app: AppDep, project: ProjectDep, body: ImportRequest, once: OnceDep) -> ImportAccepted:
    def act(session: Session) -> Made[ImportAccepted]:
        task_id = jobs.enqueue(
            session, project_id=project, kind=TaskKind.IMPORT, subject_id=project, payload=body.model_dump()
        )
        view = ImportAccepted(task_id=task_id, state="queued", result={}, error=None)
        check_tasks(session, project, app.settings.quotas)
        return Made(view, 202, f"/v1/models/import/{task_id}")

    return once.do(body, act)


@router.get("/models/import/{task_id}", summary="How an import went")
def show_import(app: AppDep, project: ProjectDep, task_id: str) -> ImportAccepted:
    with app.database.read() as session:
        task = jobs.get_task(session, project, task_id, kind=TaskKind.IMPORT)
    return ImportAccepted(task_id=task.id, state=task.state, result=dict(task.progress), error=_json(task.error))


def _json(error: object) -> dict[str, object] | None:
    return dict(error) if isinstance(error, dict) else None


@router.get("/models/{model}", summary="Show a model, by id or name", response_model=ModelView)
def show_model(reader: ReaderDep, model: str) -> Response:
    return reader.show(lambda session, project: catalog.show(session, project, model))


@router.post("/models/{model}/release", summary="End a model's quarantine")
def release_model(app: AppDep, project: ProjectDep, model: str, once: OnceDep) -> ModelView:
    """Rankings that are asked for from now on try the model again. One that is in no quarantine stays as it is."""

    def act(session: Session) -> Made[ModelView]:
        view = catalog.release(session, project, model)
        return Made(view, 200, f"/v1/models/{view.id}")

    return once.do(model, act)


@router.delete("/models/{model}", status_code=204, summary="Remove a model")
def remove_model(app: AppDep, project: ProjectDep, model: str, match: MatchDep) -> None:
    with app.database.write() as session:
        match.check(session, lambda session: catalog.show(session, project, model))
        rankings.remove_model(session, project, model)
        jobs.enqueue_collection(session, project)
