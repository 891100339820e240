"""What can be done with datasets, one transaction each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from service.core.canonical import canonical_sha256
from service.core.errors import Conflict
from service.core.pagination import MAX_LIMIT
from service.datasets import repository
from service.datasets.names import next_version_name
from service.datasets.schemas import DatasetPage, DatasetView, VersionCreate
from service.datasets.tables import DatasetRow
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind
from service.keys.repository import lock_project
from service.webhooks.events import Event
from service.webhooks.service import emit
from zoo.catalog import Modality


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
    source_bytes: int = 0,
    source_images: int = 0,
    texts: Mapping[str, str] | None = None,
) -> Accepted:
    """A new dataset to check, or the one that the same source has already become.

    `texts` names the columns of a table of texts.
    """
    lock_project(session, project_id)
    if texts is not None:
        source_digest = canonical_sha256({"source": source_digest, "texts": dict(texts)})
    known = repository.by_source(session, project_id, source_digest)
    if known is not None:
        return Accepted(known, already_known=True)
    row = repository.add(
        session,
        project_id,
        name=name,
        modality="image" if texts is None else "text",
        source_digest=source_digest,
        source_bytes=source_bytes,
        source_images=source_images,
    )
    jobs.enqueue(
        session,
        project_id=project_id,
        kind=TaskKind.INGEST,
        subject_id=row.id,
        payload={"source": str(source), "delete_source": delete_source} | ({"texts": dict(texts)} if texts else {}),
        priority=Priority.CONTROL,
    )
    return Accepted(row, already_known=False)


@dataclass(frozen=True, slots=True)
class VersionSource:
    """Where a version's images and changes lie until a worker has read them."""

    archive: Path | None  # to be added
    changes: Path | None  # a VersionCreate as JSON
    add: str | None  # id of a dataset to be added
    delete: Path | None  # whichever of the two is of no use afterwards


def accept_version(
    session: Session,
    project_id: str,
    parent_id: str,
    source: VersionSource,
    /,
    *,
    name: str | None,
    digest: str,
    source_bytes: int = 0,
    source_images: int = 0,
) -> Accepted:
    """A new version to make, or the one that the same changes to the same parent have already become.

    Raises:
        Conflict: The parent, or the dataset to be added, is not sealed.
    """
    lock_project(session, project_id)
    parent = sealed(session, project_id, parent_id)
    if source.add is not None and (other := sealed(session, project_id, source.add)).modality != parent.modality:
        raise Conflict(f"'{parent.name}' holds {parent.modality}s and '{other.name}' {other.modality}s.")
    if source.archive is not None:
        require_images_to_add(parent)
    known = repository.by_source(session, project_id, digest)
    if known is not None:
        return Accepted(known, already_known=True)
    row = repository.add(
        session,
        project_id,
        name=name or next_version_name(parent.name),
        modality=modality_of(parent),
        source_digest=digest,
        source_bytes=source_bytes,
        source_images=source_images,
        parent_id=parent.id,
        changes={"parent_name": parent.name, "parent_fingerprint": parent.fingerprint},
    )
    paths = {"archive": source.archive, "changes": source.changes}
    jobs.enqueue(
        session,
        project_id=project_id,
        kind=TaskKind.INGEST,
        subject_id=row.id,
        payload={
            "parent": parent.id,
            "add": source.add,
            "source": str(source.delete or source.archive),
            "delete_source": source.delete is not None,
            **{key: None if path is None else str(path) for key, path in paths.items()},
        },
        priority=Priority.CONTROL,
    )
    return Accepted(row, already_known=False)


def require_images_to_add(parent: DatasetRow, /) -> None:
    """Raises Conflict where the parent holds texts: an archive adds images."""
    if parent.modality == "text":
        raise Conflict("To add texts, make a dataset of them and add that one to this by its name.")


def sealed(session: Session, project_id: str, ident: str, /) -> DatasetRow:
    """Raises Conflict where the dataset is not sealed, with what to do."""
    row = repository.get(session, project_id, ident)
    if row.state == "checking":
        raise Conflict(f"Dataset '{row.name}' is still being checked: wait until its state is 'sealed'.")
    if row.state == "refused":
        raise Conflict(f"Dataset '{row.name}' was refused: {(row.problem or {}).get('detail')}")
    return row


def seal(
    session: Session,
    row: DatasetRow,
    /,
    *,
    fingerprint: str,
    n_images: int,
    classes: Sequence[str],
    report: Mapping[str, Any],
) -> None:
    repository.seal(row, fingerprint=fingerprint, n_images=n_images, classes=classes, report=report)
    emit(session, row.project_id, Event.DATASET_SEALED, {**_named(row), "fingerprint": fingerprint, "images": n_images})


def refuse(session: Session, row: DatasetRow, problem: Mapping[str, Any], /) -> None:
    repository.refuse(row, problem)
    said = {key: problem[key] for key in ("type", "title", "detail") if key in problem}
    emit(session, row.project_id, Event.DATASET_REFUSED, {**_named(row), "problem": said})


def _named(row: DatasetRow) -> dict[str, Any]:
    return {"dataset": row.id, "name": row.name}


def version_digest(
    parent_id: str, /, *, archive_sha256: str | None, changes: VersionCreate | None, add: str | None
) -> str:
    """What the same changes to the same dataset have in common."""
    asked = {"remove": sorted(set(changes.remove)), "relabel": changes.relabel} if changes else {}
    return canonical_sha256({"parent": parent_id, "archive": archive_sha256, "add": add, **asked})


def modality_of(row: DatasetRow, /) -> Modality:
    return "text" if row.modality == "text" else "image"


def show(session: Session, project_id: str, ident: str, /) -> DatasetView:
    row = repository.get(session, project_id, ident)
    return _view(session, row, report=row.report)


def versions_of(session: Session, dataset_id: str, /, *, limit: int) -> list[DatasetView]:
    """Made from it directly, newest first."""
    return [_view(session, row, report=row.report) for row in repository.versions_of(session, dataset_id, limit=limit)]


def list_datasets(session: Session, project_id: str, /, *, limit: int = 50, cursor: str | None = None) -> DatasetPage:
    page = repository.list_page(session, project_id, limit=min(limit, MAX_LIMIT), cursor=cursor)
    return DatasetPage(items=[_view(session, row, report=None) for row in page.items], next_cursor=page.next_cursor)


def _view(session: Session, row: DatasetRow, *, report: dict[str, Any] | None) -> DatasetView:
    tasks = jobs.tasks_of(session, row.id) if row.state == "checking" else []
    return DatasetView(
        id=row.id,
        name=row.name,
        modality=modality_of(row),
        state=row.state,
        fingerprint=row.fingerprint,
        n_images=row.n_images,
        n_classes=row.n_classes,
        classes=row.classes,
        parent_id=row.parent_id,
        changes=row.changes,
        report=report,
        problem=row.problem,
        progress=dict(tasks[-1].progress) if tasks else {},
        created_at=row.created_at,
        sealed_at=row.sealed_at,
    )
