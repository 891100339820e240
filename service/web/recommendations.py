"""What to fine-tune on a dataset: expected accuracies, what they cost, and why."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from service.api.deps import AppDep, ProjectDep
from service.core.errors import InvalidRequest
from service.datasets import service as datasets
from service.recommendations import service as recommendations
from service.recommendations.model import Constraints
from service.web.contexts import RecommendationPage, RecommendationRowsPage
from service.web.figures import expected_figure
from service.web.rendering import render

router = APIRouter()
FIRST = 50  # rows that the page begins with; the others are fetched once it is shown
_Number = Annotated[str, Query(max_length=30)]  # a form sends fields that are empty


def _constraints(
    max_params: _Number = "",
    max_input_size: _Number = "",
    max_milliseconds: _Number = "",
    max_megabytes: _Number = "",
    licence: Annotated[str, Query(max_length=200)] = "",
) -> Constraints:
    params, size, memory = _number(max_params), _number(max_input_size), _number(max_megabytes)
    return Constraints(
        max_params=None if params is None else round(params * 1e6),
        max_input_size=None if size is None else round(size),
        max_milliseconds=_number(max_milliseconds),
        max_forward_bytes=None if memory is None else round(memory * 1e6),
        licence=licence or None,
    )


_ConstraintsDep = Annotated[Constraints, Depends(_constraints)]


@router.get("/datasets/{dataset}/recommendation")
def show_recommendation(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    wanted: _ConstraintsDep,
    rows: Annotated[str | None, Query(max_length=10)] = None,
) -> HTMLResponse:
    with app.database.read() as session:
        view = datasets.show(session, project, dataset)
        found = recommendations.recommend(session, project, dataset, wanted, evidence_chances=False)
    first = len(found.entries) if rows == "all" else FIRST
    page = RecommendationPage(
        dataset=view,
        found=found,
        entries=list(found.entries[:first]),
        left=max(0, len(found.entries) - first),
        asked=urlencode([(name, value) for name, value in request.query_params.multi_items() if name != "rows"]),
        wanted=wanted,
        figure=expected_figure(found),
    )
    return render(request, "recommendation.html", page)


@router.get("/datasets/{dataset}/recommendation/rows")
def show_rows(
    request: Request, app: AppDep, project: ProjectDep, dataset: str, wanted: _ConstraintsDep
) -> HTMLResponse:
    """Those that the recommendation's page does not begin with."""
    with app.database.read() as session:
        found = recommendations.recommend(session, project, dataset, wanted, evidence_chances=False)
    return render(request, "recommendation_rows.html", RecommendationRowsPage(entries=list(found.entries[FIRST:])))


def _number(text: str) -> float | None:
    if not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise InvalidRequest(f"'{text}' is no number above 0.")
    return value
