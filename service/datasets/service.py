"""What can be done with datasets, one transaction each."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from service.core.pagination import MAX_LIMIT
from service.datasets import repository
from service.datasets.schemas import DatasetPage, DatasetView
from service.datasets.tables import DatasetRow
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind
from service.keys.repository import lock_project


@dataclass(frozen=True, slots=True)
class Accepted:
    row: DatasetRow
    already_known: bool


def accept(
    session: Session,
    project_id: str,
    source: Path,
    /,
    *,
    name: str,
    source_digest: str,
    delete_source: bool,
) -> Accepted:
    """A new dataset to check, or the one that the same source has already become."""
    lock_project(session, project_id)
    known = repository.by_source(session, project_id, source_digest)
    if known is not None:
        return Accepted(known, already_known=True)
    row = repository.add(session, project_id, name=name, source_digest=source_digest)
    jobs.enqueue(
        session,
        project_id=project_id,
        kind=TaskKind.INGEST,
        subject_id=row.id,
        payload={"source": str(source), "delete_source": delete_source},
        priority=Priority.CONTROL,
    )
    return Accepted(row, already_known=False)


def show(session: Session, project_id: str, ident: str, /) -> DatasetView:
    return _view(session, repository.get(session, project_id, ident))


def list_datasets(session: Session, project_id: str, /, *, limit: int = 50, cursor: str | None = None) -> DatasetPage:
    page = repository.list_page(session, project_id, limit=min(limit, MAX_LIMIT), cursor=cursor)
    return DatasetPage(items=[_view(session, row) for row in page.items], next_cursor=page.next_cursor)


def _view(session: Session, row: DatasetRow) -> DatasetView:
    tasks = jobs.tasks_of(session, row.id) if row.state == "checking" else []
    return DatasetView(
        id=row.id,
        name=row.name,
        state=row.state,
        fingerprint=row.fingerprint,
        n_images=row.n_images,
        n_classes=row.n_classes,
        classes=row.classes,
        report=row.report,
        problem=row.problem,
        progress=dict(tasks[-1].progress) if tasks else {},
        created_at=row.created_at,
        sealed_at=row.sealed_at,
    )
