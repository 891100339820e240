"""The pages. They read the same views as the API gives."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from estimators.catalog import SPECS
from service.api.deps import AppDep, ProjectDep
from service.datasets import service as datasets
from service.inspections import service as inspections
from service.jobs import repository as jobs
from service.models import repository as model_rows
from service.models.schemas import ModelFilter
from service.rankings import service as rankings
from service.rankings.display import notes, value_and_error
from service.rankings.repository import ENDED
from service.web.contexts import DatasetPage, HomePage, RankingPage
from service.web.paths import TEMPLATES
from zoo.catalog import ModelCard
from zoo.snippet import snippet

router = APIRouter(tags=["web"])
SHOWN = 20


def thousands(number: int | None) -> str:
    return "?" if number is None else f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _templates() -> Jinja2Templates:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(["html"]), undefined=StrictUndefined
    )
    environment.filters |= {"value_and_error": value_and_error, "thousands": thousands, "notes": notes}
    environment.globals |= {"estimators": SPECS}
    return Jinja2Templates(env=environment)


templates = _templates()


@router.get("/")
def home(request: Request, app: AppDep, project: ProjectDep) -> HTMLResponse:
    with app.database.read() as session:
        page = HomePage(
            datasets=datasets.list_datasets(session, project, limit=SHOWN).items,
            rankings=rankings.list_rankings(session, project, limit=SHOWN).items,
            n_models=model_rows.count(session, project, ModelFilter()),
            workers=jobs.workers_alive(session),
        )
    return templates.TemplateResponse(request, "home.html", {"page": page})


@router.get("/rankings/{ranking}")
def show_ranking(request: Request, app: AppDep, project: ProjectDep, ranking: str) -> HTMLResponse:
    with app.database.read() as session:
        view = rankings.show(session, project, ranking)
        first = next((entry for entry in view.entries if entry.rank == 1), None)
        card = ModelCard.from_json(model_rows.get(session, project, first.model_id).card) if first else None
    page = RankingPage(
        ranking=view,
        running=view.state not in ENDED,
        entries=view.entries,
        snippet=snippet(card) if card is not None else None,
    )
    return templates.TemplateResponse(request, "ranking.html", {"page": page})


@router.get("/datasets/{dataset}")
def show_dataset(request: Request, app: AppDep, project: ProjectDep, dataset: str) -> HTMLResponse:
    with app.database.read() as session:
        view = datasets.show(session, project, dataset)
        page = DatasetPage(
            dataset=view,
            versions=datasets.versions_of(session, view.id, limit=SHOWN),
            inspections=inspections.latest(session, project, view.id),
            shown=SHOWN,
            rankings=rankings.list_rankings(session, project, limit=SHOWN, dataset_id=view.id).items,
        )
    return templates.TemplateResponse(request, "dataset.html", {"page": page})
