"""Recommendations."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.deps import AppDep, ProjectDep
from service.recommendations import service as recommendations
from service.recommendations import track
from service.recommendations.model import Agreement, Constraints, Recommendation

router = APIRouter(tags=["recommendations"])


@router.get("/datasets/{dataset}/recommendations", summary="Which model to fine-tune, within constraints, and why")
def recommend(
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    ranking: Annotated[
        str | None, Query(max_length=100, description="one that is done; the newest of the dataset if unset")
    ] = None,
    max_params: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
    max_input_size: Annotated[int | None, Query(ge=1, le=8192, description="pixels a side")] = None,
    max_milliseconds: Annotated[
        float | None, Query(gt=0, le=1e9, allow_inf_nan=False, description="an image, as measured while embedding")
    ] = None,
    max_weights_bytes: Annotated[int | None, Query(ge=0, lt=2**62, description="of the weights in float32")] = None,
    licence: Annotated[str | None, Query(max_length=200)] = None,
) -> Recommendation:
    """Evidence and prior stand apart in every entry, and together in `expected`; `ordered_by` says what orders."""
    wanted = Constraints(
        max_params=max_params,
        max_input_size=max_input_size,
        max_milliseconds=max_milliseconds,
        max_weights_bytes=max_weights_bytes,
        licence=licence,
    )
    with app.database.read() as session:
        return recommendations.recommend(session, project, dataset, wanted, ranking=ranking)


@router.get(
    "/estimators/agreement", summary="How well estimators and the recommendation have done so far"
)
def show_agreement(app: AppDep, project: ProjectDep) -> Agreement:
    """The recommendation foretells each dataset without its outcomes, as if they were still to come."""
    with app.database.read() as session:
        return track.agreement(session, project)
