"""Recommendations."""

from typing import Annotated

from fastapi import APIRouter, Query, Response
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep, ReaderDep
from service.api.once import Made, OnceDep
from service.core.errors import NotFound
from service.datasets import repository as datasets
from service.recommendations import instant, track
from service.recommendations import service as recommendations
from service.recommendations.instant import SignatureView
from service.recommendations.model import Agreement, Constraints, Recommendation

router = APIRouter(tags=["recommendations"])


@router.post(
    "/datasets/{dataset}/signature",
    status_code=202,
    summary="Look at a few hundred images, and find the datasets that are like this one",
    responses={200: {"model": SignatureView, "description": "It has been looked at, or is about to be"}},
)
def sign_dataset(app: AppDep, project: ProjectDep, dataset: str, once: OnceDep) -> SignatureView:
    """One small model embeds a few hundred images, in seconds. Recommendations of the dataset then weigh outcomes on
    datasets like it more, from before any candidate has run.
    """
    instant_settings = app.settings.instant

    def act(session: Session) -> Made[SignatureView]:
        before = datasets.get(session, project, dataset)
        had = instant.find(session, before.id)
        view = instant.request(
            session, project, before.id, model=instant_settings.reference_model, images=instant_settings.images
        )
        return Made(view, 200 if view == had else 202, f"/v1/datasets/{before.id}/signature")

    return once.do(dataset, act)


@router.get("/datasets/{dataset}/signature", summary="The datasets that are like this one")
def show_signature(app: AppDep, project: ProjectDep, dataset: str) -> SignatureView:
    with app.database.read() as session:
        row = datasets.get(session, project, dataset)
        found = instant.find(session, row.id)
    if found is None:
        raise NotFound("signature of dataset", dataset)
    return found


@router.get(
    "/datasets/{dataset}/recommendations",
    summary="Which model to fine-tune, within constraints, and why",
    response_model=Recommendation,
)
def recommend(
    reader: ReaderDep,
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
    max_forward_bytes: Annotated[
        int | None, Query(ge=0, lt=2**62, description="of a forward pass of one image or text, as measured")
    ] = None,
    licence: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Evidence and prior stand apart in every entry, and together in `expected`; `ordered_by` says what orders."""
    wanted = Constraints(
        max_params=max_params,
        max_input_size=max_input_size,
        max_milliseconds=max_milliseconds,
        max_weights_bytes=max_weights_bytes,
        max_forward_bytes=max_forward_bytes,
        licence=licence,
    )
    return reader.show(
        lambda session, project: recommendations.recommend(session, project, dataset, wanted, ranking=ranking)
    )


@router.get(
    "/estimators/agreement",
    summary="How well estimators and the recommendation have done so far",
    response_model=Agreement,
)
def show_agreement(reader: ReaderDep) -> Response:
    """The recommendation foretells each dataset without its outcomes, as if they were still to come."""
    return reader.show(track.agreement)
