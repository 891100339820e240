"""What one model's embeddings say of a dataset."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep
from service.api.once import Made, OnceDep
from service.api.quotas import check_tasks
from service.inspections import service as inspections
from service.inspections.schemas import InspectionCreate, InspectionView, MapView, NeighboursView

router = APIRouter(tags=["inspections"])
MAX_NEIGHBOURS = 200


@router.post(
    "/datasets/{dataset}/inspections",
    status_code=202,
    summary="Look for near-copies, leaks between splits and label errors",
    responses={200: {"model": InspectionView, "description": "The same inspection is under way: that one"}},
)
def request_inspection(
    app: AppDep, project: ProjectDep, dataset: str, body: InspectionCreate, once: OnceDep
) -> InspectionView:
    """A worker embeds every split by the model, where that is not done yet, and compares each image with all others."""

    def act(session: Session) -> Made[InspectionView]:
        requested = inspections.request(session, project, dataset, body.model)
        view = inspections.show(session, project, requested.row.id)
        check_tasks(session, project, app.settings.quotas)
        return Made(view, 200 if requested.already_under_way else 202, f"/v1/inspections/{view.id}")

    return once.do(body, act)


@router.get("/inspections/{inspection}", summary="State and result of an inspection")
def show_inspection(app: AppDep, project: ProjectDep, inspection: str) -> InspectionView:
    with app.database.read() as session:
        return inspections.show(session, project, inspection)


@router.get("/datasets/{dataset}/neighbours", summary="The images nearest to one image, under a model")
def show_neighbours(
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    model: Annotated[str, Query(max_length=300, description="id or name")],
    image: Annotated[str, Query(max_length=1100, description="path or content hash of an image of the dataset")],
    k: Annotated[int, Query(ge=1, le=MAX_NEIGHBOURS)] = 10,
) -> NeighboursView:
    """Among those of the dataset's images that the model has embedded."""
    from service.embeddings.opening import open_store  # loads FAISS
    from service.inspections.neighbours import neighbours

    store = open_store(app.settings, app.database)
    with app.database.read() as session:
        return neighbours(
            session,
            project,
            dataset=dataset,
            model=model,
            image=image,
            k=k,
            manifest_root=app.settings.manifest_root,
            store=store,
        )


@router.get("/datasets/{dataset}/map", summary="A dataset in two dimensions, as a model sees it")
def show_map(
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    model: Annotated[str, Query(max_length=300, description="id or name")],
) -> MapView:
    """Images that the model has embedded, at most 2,000, on the first two principal axes of their features."""
    from service.embeddings.opening import open_store  # loads FAISS
    from service.inspections.mapping import dataset_map

    store = open_store(app.settings, app.database)
    with app.database.read() as session:
        return dataset_map(
            session, project, dataset=dataset, model=model, manifest_root=app.settings.manifest_root, store=store
        )
