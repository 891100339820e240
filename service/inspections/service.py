"""What can be done with inspections, one transaction each."""

from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.core.errors import InvalidRequest
from service.datasets import repository as datasets
from service.datasets import service as dataset_service
from service.datasets.schemas import InspectionBrief
from service.inspections import repository
from service.inspections.schemas import InspectionView
from service.inspections.tables import InspectionRow
from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from service.keys.repository import lock_project
from service.models import repository as models


@dataclass(frozen=True, slots=True)
class Requested:
    row: InspectionRow
    already_under_way: bool


def request(session: Session, project_id: str, dataset: str, model: str, /) -> Requested:
    """An inspection to make, or the one of the same dataset and model that has not ended yet.

    Raises:
        Conflict: The dataset is not sealed.
        InvalidRequest: The model does not read what the dataset holds.
    """
    lock_project(session, project_id)
    sealed = dataset_service.sealed(session, project_id, dataset)
    found = models.get(session, project_id, model)
    if sealed.modality != models.modality_of(found):
        raise InvalidRequest(f"'{sealed.name}' holds {sealed.modality}s, which {found.name} cannot read.")
    open_one = repository.under_way(session, sealed.id, found.id)
    if open_one is not None:
        return Requested(open_one, already_under_way=True)
    row = repository.add(session, project_id, dataset_id=sealed.id, model_id=found.id)
    jobs.enqueue(
        session,
        project_id=project_id,
        kind=TaskKind.INSPECT,
        subject_id=sealed.id,  # so that removing the dataset stops it
        payload={"inspection": row.id, "images": sealed.n_images or 0},
    )
    return Requested(row, already_under_way=False)


def show(session: Session, project_id: str, ident: str, /) -> InspectionView:
    row = repository.get(session, project_id, ident)
    tasks = [
        task
        for task in jobs.tasks_of(session, row.dataset_id)
        if task.kind is TaskKind.INSPECT and task.payload.get("inspection") == row.id
    ]
    return InspectionView.model_validate(
        {
            "id": row.id,
            "dataset_id": row.dataset_id,
            "dataset": datasets.get(session, project_id, row.dataset_id).name,
            "model_id": row.model_id,
            "model": models.get(session, project_id, row.model_id).name,
            "extractor_id": row.extractor_id,
            "state": row.state,
            "progress": dict(tasks[-1].progress) if tasks and row.state in repository.OPEN else {},
            "result": row.result,
            "error": row.error,
            "created_at": row.created_at,
            "finished_at": row.finished_at,
        }
    )


def latest(session: Session, project_id: str, dataset_id: str, /) -> list[InspectionView]:
    """The newest of each model, newest first."""
    return [show(session, project_id, row.id) for row in repository.latest(session, dataset_id)]


def of_dataset(session: Session, project_id: str, dataset_id: str, /) -> list[InspectionBrief]:
    """The newest of each model, with what it found in numbers."""
    rows = repository.latest(session, dataset_id)
    names = {ident: row.name for ident, row in models.by_ids(session, project_id, [r.model_id for r in rows]).items()}
    return [
        InspectionBrief.model_validate(
            {
                "id": row.id,
                "model": names.get(row.model_id, row.model_id),
                "state": row.state,
                "found": {kind: row.result[kind]["total"] for kind in ("near_copies", "leaks", "label_errors")}
                if row.result
                else None,
                "created_at": row.created_at,
            }
        )
        for row in rows
    ]
