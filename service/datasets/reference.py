"""The reference set: one sealed dataset of generic images a project, against which features are compared."""

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import Conflict
from service.datasets import repository
from service.datasets.errors import DatasetInUse, NoReferenceSet
from service.datasets.schemas import ReferenceView
from service.datasets.service import sealed
from service.datasets.tables import ReferenceSetRow
from service.keys.repository import lock_project


def find(session: Session, project_id: str, /) -> ReferenceSetRow | None:
    return session.get(ReferenceSetRow, project_id)


def show(session: Session, project_id: str, /) -> ReferenceView:
    """The reference set.

    Raises:
        NoReferenceSet: None is named.
    """
    return _view(session, _get(session, project_id))


def name(session: Session, project_id: str, ident: str, /) -> ReferenceView:
    """Makes a sealed dataset the reference set, in place of the one before.

    Raises:
        Conflict: The dataset is still being checked, or was refused.
    """
    lock_project(session, project_id)
    dataset = sealed(session, project_id, ident)
    if dataset.modality != "image":
        raise Conflict(f"'{dataset.name}' holds texts: a reference set is one of images.")
    row = find(session, project_id)
    if row is None or row.dataset_id != dataset.id:
        row = session.merge(
            ReferenceSetRow(
                project_id=project_id, dataset_id=dataset.id, fingerprint=dataset.fingerprint, set_at=utc_now()
            )
        )
        session.flush()
    return _view(session, row)


def clear(session: Session, project_id: str, /) -> None:
    """Forgets which dataset it is; the dataset, its embeddings and every score stay."""
    session.delete(_get(session, project_id))


def refuse_removal(session: Session, project_id: str, dataset_id: str, /) -> None:
    """Raises DatasetInUse where the dataset is the reference set."""
    row = find(session, project_id)
    if row is not None and row.dataset_id == dataset_id:
        raise DatasetInUse(
            "The dataset is the reference set: name another one with `zooscout reference set DATASET` "
            "(PUT /v1/reference), or clear it with `zooscout reference clear` (DELETE /v1/reference), then remove it."
        )


def _get(session: Session, project_id: str) -> ReferenceSetRow:
    row = find(session, project_id)
    if row is None:
        raise NoReferenceSet(
            "There is no reference set: name one with `zooscout reference set DATASET` or PUT /v1/reference."
        )
    return row


def _view(session: Session, row: ReferenceSetRow) -> ReferenceView:
    dataset = repository.get(session, row.project_id, row.dataset_id)
    return ReferenceView(
        dataset=dataset.id,
        name=dataset.name,
        fingerprint=row.fingerprint,
        n_images=dataset.n_images or 0,
        set_at=row.set_at,
    )
