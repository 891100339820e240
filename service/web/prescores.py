"""Pages of what is scored ahead of any question, and of what that changed."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from service.api.deps import AppDep, ProjectDep
from service.api.quotas import check_tasks
from service.models.schemas import ModelFilter
from service.prescores import service as prescores
from service.prescores.schemas import PairState, PrescoreCreate
from service.web.contexts import ChangesPage, PrescorePage, PrescoresPage
from service.web.forms import FormDep, judged
from service.web.rendering import render

router = APIRouter()
LISTED, PAIRS = 50, 100
_Cursor = Annotated[str | None, Query(max_length=2000)]


@router.get("/prescores")
def list_prescores(request: Request, app: AppDep, project: ProjectDep, cursor: _Cursor = None) -> HTMLResponse:
    with app.database.read() as session:
        found = prescores.list_prescores(session, project, limit=LISTED, cursor=cursor)
    page = PrescoresPage(prescores=[(view, meant(view.request)) for view in found.items], following=found.next_cursor)
    return render(request, "prescores.html", page)


@router.get("/prescores/{prescore}")
def show_prescore(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    prescore: str,
    state: PairState | None = None,
    cursor: _Cursor = None,
) -> HTMLResponse:
    with app.database.read() as session:
        view = prescores.show(session, project, prescore)
        pairs = prescores.pairs(session, project, view.id, limit=PAIRS, cursor=cursor, state=state)
    page = PrescorePage(
        prescore=view,
        meant=meant(view.request),
        running=view.finished_at is None,
        counts=list(view.pairs.model_dump().items()),
        pairs=pairs.items,
        state=state,
        following=pairs.next_cursor,
    )
    return render(request, "prescore.html", page)


@router.get("/changes")
def list_changes(request: Request, app: AppDep, project: ProjectDep, cursor: _Cursor = None) -> HTMLResponse:
    with app.database.read() as session:
        found = prescores.changes(session, project, limit=LISTED, cursor=cursor)
    return render(request, "changes.html", ChangesPage(changes=found.items, following=found.next_cursor))


@router.post("/prescores")
def create_prescore(app: AppDep, project: ProjectDep, form: FormDep) -> RedirectResponse:
    given: dict[str, Any] = form.filled("datasets", "budget")
    if name := form.one("models"):
        given["models"] = {"name": name}
    body = judged(PrescoreCreate, given | {"new": form.one("new") is not None})
    with app.database.write() as session:
        asked = prescores.create(session, project, body)
        check_tasks(session, project, app.settings.quotas)
    return RedirectResponse(f"/prescores/{asked.row.id}", status_code=303)


@router.post("/prescores/{prescore}/remove")
def remove_prescore(app: AppDep, project: ProjectDep, prescore: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        prescores.remove(session, project, prescore)
    return RedirectResponse("/prescores", status_code=303)


def meant(request: PrescoreCreate, /) -> str:
    """What was asked for, as one would say it."""
    if isinstance(request.models, ModelFilter):
        asked = request.models.model_dump(mode="json", exclude_defaults=True)
        name = asked.pop("name", None)
        others = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in asked.items())
        models = "models" + (f" named {name}" if name else "") + (f" with {others}" if others else "")
    elif request.models is not None:
        models = f"{len(request.models)} {'model' if len(request.models) == 1 else 'models'} by name"
    else:
        models = "every model"
    said = f"{models} on {f'datasets named {request.datasets}' if request.datasets else 'every dataset'}"
    said += ", what has no score yet" if request.new else ""
    return said + (f", within {request.budget}" if request.budget else "")
