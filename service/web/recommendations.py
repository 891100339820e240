"""What to fine-tune on a dataset: expected accuracies, what they cost, and why."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from service.api.deps import AppDep, ProjectDep
from service.core.errors import InvalidRequest
from service.datasets import service as datasets
from service.recommendations import service as recommendations
from service.recommendations.model import Constraints
from service.web.contexts import RecommendationPage
from service.web.figures import expected_figure
from service.web.rendering import render

router = APIRouter()
_Number = Annotated[str, Query(max_length=30)]  # a form sends fields that are empty


@router.get("/datasets/{dataset}/recommendation")
def show_recommendation(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    max_params: _Number = "",
    max_input_size: _Number = "",
    max_milliseconds: _Number = "",
    licence: Annotated[str, Query(max_length=200)] = "",
) -> HTMLResponse:
    params, size = _number(max_params), _number(max_input_size)
    wanted = Constraints(
        max_params=None if params is None else round(params * 1e6),
        max_input_size=None if size is None else round(size),
        max_milliseconds=_number(max_milliseconds),
        licence=licence or None,
    )
    with app.database.read() as session:
        view = datasets.show(session, project, dataset)
        found = recommendations.recommend(session, project, dataset, wanted)
    figure = expected_figure(found)
    page = RecommendationPage(dataset=view, found=found, wanted=wanted, figure=figure)
    return render(request, "recommendation.html", page)


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
