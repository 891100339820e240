"""The reference set."""

from fastapi import APIRouter

from service.api.deps import AppDep, ProjectDep
from service.api.etags import MatchDep
from service.datasets import reference as references
from service.datasets.schemas import ReferenceRequest, ReferenceView

router = APIRouter(tags=["reference"])


@router.put("/reference", summary="Name a sealed dataset the reference set")
def name_reference(app: AppDep, project: ProjectDep, body: ReferenceRequest, match: MatchDep) -> ReferenceView:
    """Rankings asked for from now on are computed against it. Nothing is embedded again but what is new to a model."""
    with app.database.write() as session:
        match.check(session, lambda session: references.show(session, project))
        return references.name(session, project, body.dataset)


@router.get("/reference", summary="Which dataset is the reference set")
def show_reference(app: AppDep, project: ProjectDep) -> ReferenceView:
    with app.database.read() as session:
        return references.show(session, project)


@router.delete("/reference", status_code=204, summary="Go on without a reference set")
def clear_reference(app: AppDep, project: ProjectDep, match: MatchDep) -> None:
    """The dataset itself stays, and so does every score."""
    with app.database.write() as session:
        match.check(session, lambda session: references.show(session, project))
        references.clear(session, project)
