"""The pages. They read the same views as the API gives, and their forms call the same services."""

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse

from estimators.catalog import SPECS, Need
from service.api.deps import AppDep, ProjectDep
from service.core.errors import NotFound
from service.datasets import service as datasets
from service.jobs import repository as jobs
from service.models import repository as model_rows
from service.models.schemas import ModelFilter
from service.rankings import service as rankings
from service.recommendations import track
from service.scoring.panel import DEFAULT_PANEL
from service.web import datasets as dataset_pages
from service.web import models as model_pages
from service.web import new_ranking as new_ranking_pages
from service.web import prescores as prescore_pages
from service.web import rankings as ranking_pages
from service.web import recommendations as recommendation_pages
from service.web import settings as settings_pages
from service.web.contexts import EstimatorsPage, HomePage
from service.web.rendering import PLOTLY_VERSION, render

router = APIRouter(tags=["web"])
SHOWN = 10
for pages in (
    dataset_pages, new_ranking_pages, ranking_pages, recommendation_pages, model_pages, prescore_pages, settings_pages
):  # fmt: skip
    router.include_router(pages.router)


@router.get("/")
def home(request: Request, app: AppDep, project: ProjectDep) -> HTMLResponse:
    with app.database.read() as session:
        page = HomePage(
            datasets=datasets.list_datasets(session, project, limit=SHOWN).items,
            rankings=rankings.list_rankings(session, project, limit=SHOWN).items,
            n_models=model_rows.count(session, project, ModelFilter()),
            workers=jobs.workers(session),
            queue=jobs.queue_of(session, project),
        )
    return render(request, "home.html", page)


_GROUPS = (
    ("From the images and labels alone", frozenset({Need.MOMENTS, Need.FEATURES})),
    ("With a reference set", frozenset({Need.BACKGROUND, Need.REFERENCE_FEATURES})),
    ("From the model's own classes", frozenset({Need.SOURCE_PROBS})),
    ("From class names", frozenset({Need.TEXT_PROTOTYPES})),
)


@router.get("/estimators")
def list_estimators(request: Request, app: AppDep, project: ProjectDep) -> HTMLResponse:
    of_group: dict[str, list[str]] = {title: [] for title, _ in _GROUPS}
    for name, spec in SPECS.items():  # the last group that one of its needs names
        of_group[[title for title, needs in _GROUPS if spec.needs & needs][-1]].append(name)
    groups = [(title, [SPECS[name] for name in names]) for title, names in of_group.items() if names]
    with app.database.read() as session:
        record = track.agreement(session, project)
    page = EstimatorsPage(groups=groups, panel=list(DEFAULT_PANEL), record=record)
    return render(request, "estimators.html", page)


@router.get(f"/vendor/plotly-{PLOTLY_VERSION}.js")
def plotly() -> FileResponse:
    """The script of the installed package: no page asks another host for it."""
    found = find_spec("plotly")
    if found is None or found.origin is None:
        raise NotFound("package", "plotly")
    path = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "private, max-age=31536000"})
