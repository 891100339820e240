"""Recommendations."""

from typing import Annotated

from fastapi import APIRouter, Query

from service.api.deps import AppDep, ProjectDep
from service.recommendations import service as recommendations
from service.recommendations.model import Constraints, Recommendation

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
    licence: Annotated[str | None, Query(max_length=200)] = None,
) -> Recommendation:
    """Evidence and prior stand apart in every entry; `ordered_by` says which of them the order follows."""
    wanted = Constraints(
        max_params=max_params, max_input_size=max_input_size, max_milliseconds=max_milliseconds, licence=licence
    )
    with app.database.read() as session:
        return recommendations.recommend(session, project, dataset, wanted, ranking=ranking)
