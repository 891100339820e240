"""The page on which a ranking is asked for: every state of it has its own address."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from estimators.catalog import SPECS
from service.api.deps import AppDep, ProjectDep
from service.api.quotas import check_tasks
from service.core.budget import Budget, budget_from
from service.core.errors import InvalidRequest
from service.datasets import reference as references
from service.datasets import service as datasets
from service.models import repository as model_rows
from service.models.repository import Weighed
from service.models.schemas import ModelFilter
from service.models.service import MAX_CANDIDATES
from service.rankings import service as rankings
from service.rankings.cost import cost
from service.rankings.schemas import RankingCreate
from service.rankings.service import GATHERED
from service.scoring.panel import DEFAULT_PANEL
from service.web.contexts import NewRankingPage
from service.web.forms import FormDep, judged
from service.web.models import FIELDS, MILLION, filter_of
from service.web.rendering import render, thousands
from zoo.catalog import Modality

router = APIRouter()
CHOICES = 200
NAMED = 8


@router.get("/rankings/new")
def new_ranking(request: Request, app: AppDep, project: ProjectDep) -> HTMLResponse:
    asked = request.query_params
    wanted = filter_of(request)
    named = asked.get("models", "")
    with app.database.read() as session:
        known = datasets.list_datasets(session, project, limit=CHOICES).items
        choice = asked.get("dataset") or (known[0].id if known else None)
        dataset = datasets.show(session, project, choice) if choice else None
        if dataset is not None and all(dataset.id != view.id for view in known):
            known = [dataset, *known]
        rows = _matching(session, project, wanted, named, dataset.modality if dataset else None)
        budget, problem = _budget(asked.get("budget", ""))
        page = NewRankingPage(
            datasets=[view for view in known if view.state != "refused"],
            dataset=dataset.id if dataset else None,
            wanted=wanted,
            named=named,
            n_models=len(rows),
            first=[row.name for row in rows[:NAMED]],
            cost=(
                cost(session, project, rows, images=images, classes=dataset.n_classes or 1, budget=budget)
                if rows and dataset is not None and (images := dataset.n_images)
                else None
            ),
            panel=[spec for spec in SPECS.values() if spec.needs <= GATHERED],
            chosen=asked.getlist("estimator") or list(DEFAULT_PANEL),
            ordered_by=asked.get("ordered_by") or "logme",
            budget=asked.get("budget", ""),
            budget_said=budget_said(budget),
            problem=problem,
            has_reference=references.find(session, project) is not None,
        )
    return render(request, "new_ranking.html", page)


def _matching(
    session: Session, project: str, wanted: ModelFilter, named: str, modality: Modality | None
) -> list[Weighed]:
    if names := named.split():
        ids = [row.id for row in model_rows.by_names(session, project, names).values()]
    else:
        reads = wanted if wanted.modality or modality is None else wanted.model_copy(update={"modality": modality})
        ids = model_rows.matching_ids(session, project, reads, limit=MAX_CANDIDATES)
    return model_rows.weighed(session, project, ids)


def _budget(text: str) -> tuple[Budget | None, str | None]:
    """And what is wrong with it, for it is read while it is typed."""
    if not text.strip():
        return None, None
    try:
        return budget_from(text), None
    except InvalidRequest as wrong:
        return None, str(wrong)


def budget_said(budget: Budget | None, /) -> str | None:
    if budget is None:
        return None
    if budget.images is not None:
        return f"a budget of {thousands(budget.images)} images"
    seconds = round(budget.seconds or 0)
    units = (("hour", 3600), ("minute", 60), ("second", 1))
    unit, size = next((unit, size) for unit, size in units if seconds % size == 0)
    return f"a {thousands(seconds // size)}-{unit} budget"


@router.post("/rankings")
def create_ranking(app: AppDep, project: ProjectDep, form: FormDep) -> RedirectResponse:
    models: list[str] | dict[str, str] = (form.one("models") or "").split()
    if not models:
        models = form.filled(*FIELDS)
        for name in {"min_params", "max_params"} & models.keys():
            models[name] = str(round(float(models[name]) * MILLION))
    given = {"dataset": form.one("dataset") or "", "models": models, **form.filled("ordered_by", "budget")}
    if estimators := form.every("estimator"):
        given["estimators"] = estimators
    body = judged(RankingCreate, given)
    with app.database.write() as session:
        row = rankings.create(session, project, body)
        check_tasks(session, project, app.settings.quotas)
    return RedirectResponse(f"/rankings/{row.id}", status_code=303)
