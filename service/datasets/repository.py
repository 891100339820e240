"""Datasets in SQL."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import case, func, or_, select
from sqlalchemy.orm import Session, defer

from service.core.clock import utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.core.pagination import Cursor, Page
from service.datasets.tables import DatasetRow
from zoo.catalog import Modality


def add(
    session: Session,
    project_id: str,
    /,
    *,
    name: str,
    modality: Modality = "image",
    source_digest: str,
    source_bytes: int = 0,
    source_images: int = 0,
    parent_id: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> DatasetRow:
    row = DatasetRow(
        id=new_id("ds"),
        project_id=project_id,
        name=name,
        modality=modality,
        state="checking",
        source_digest=source_digest,
        source_bytes=source_bytes,
        source_images=source_images,
        parent_id=parent_id,
        changes=dict(changes) if changes else None,
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def find(session: Session, project_id: str, ident: str, /) -> DatasetRow | None:
    """By id, or the newest of that name."""
    query = select(DatasetRow).where(
        DatasetRow.project_id == project_id, or_(DatasetRow.id == ident, DatasetRow.name == ident)
    )
    return session.scalars(query.order_by(DatasetRow.created_at.desc()).limit(1)).first()


def get(session: Session, project_id: str, ident: str, /) -> DatasetRow:
    row = find(session, project_id, ident)
    if row is None:
        raise NotFound("dataset", ident)
    return row


def versions_of(session: Session, dataset_id: str, /, *, limit: int) -> list[DatasetRow]:
    """Made from it directly, newest first."""
    query = select(DatasetRow).where(DatasetRow.parent_id == dataset_id)
    return list(session.scalars(query.order_by(DatasetRow.id.desc()).limit(limit)))


def hold_sealed(session: Session, project_id: str, ids: Sequence[str], /) -> bool:
    """Whether all of them are there and sealed, and stay so until this transaction ends."""
    query = select(DatasetRow.id).where(
        DatasetRow.project_id == project_id, DatasetRow.id.in_(ids), DatasetRow.state == "sealed"
    )
    return len(set(session.scalars(query.with_for_update()))) == len(set(ids))


def by_source(session: Session, project_id: str, digest: str, /) -> DatasetRow | None:
    query = select(DatasetRow).where(
        DatasetRow.project_id == project_id, DatasetRow.source_digest == digest, DatasetRow.state != "refused"
    )
    return session.scalars(query.order_by(DatasetRow.created_at).limit(1)).first()


def count_fingerprint(session: Session, project_id: str, fingerprint: str, /) -> int:
    query = select(func.count()).where(DatasetRow.project_id == project_id, DatasetRow.fingerprint == fingerprint)
    return session.execute(query).scalar_one()


def by_ids(session: Session, project_id: str, ids: Sequence[str], /) -> dict[str, DatasetRow]:
    query = select(DatasetRow).where(DatasetRow.project_id == project_id, DatasetRow.id.in_(ids))
    return {row.id: row for row in session.scalars(query)}


def briefs(session: Session, project_id: str, ids: Sequence[str], /) -> dict[str, DatasetRow]:
    """The same without classes, reports and the like, which take the longest to read."""
    query = select(DatasetRow).where(DatasetRow.project_id == project_id, DatasetRow.id.in_(ids))
    long = (DatasetRow.classes, DatasetRow.report, DatasetRow.changes, DatasetRow.problem)
    query = query.options(*(defer(column, raiseload=True) for column in long))
    return {row.id: row for row in session.scalars(query)}


def list_page(session: Session, project_id: str, /, *, limit: int, cursor: str | None) -> Page[DatasetRow]:
    """Newest first, without their reports."""
    query = select(DatasetRow).where(DatasetRow.project_id == project_id)
    query = query.options(defer(DatasetRow.report, raiseload=True))
    if cursor is not None:
        after = Cursor.decode(cursor, sort="-created_at")
        query = query.where(DatasetRow.id < after.ident)
    rows = list(session.scalars(query.order_by(DatasetRow.id.desc()).limit(limit + 1)))
    following = Cursor(None, rows[limit - 1].id).encode(sort="-created_at") if len(rows) > limit else None
    return Page(rows[:limit], following)


def brought(session: Session, project_id: str, /) -> tuple[int, int]:
    """Bytes and images that uploads have brought, refused ones left out.

    What an archive did not say of its images is known once it is sealed.
    """
    images = case((DatasetRow.parent_id.is_(None), func.coalesce(DatasetRow.n_images, DatasetRow.source_images)))
    query = select(
        func.coalesce(func.sum(DatasetRow.source_bytes), 0),
        func.coalesce(func.sum(func.coalesce(images, DatasetRow.source_images)), 0),
    ).where(DatasetRow.project_id == project_id, DatasetRow.state != "refused")
    row = session.execute(query).one()
    return int(row[0]), int(row[1])


def fingerprints(session: Session, project_id: str, /) -> dict[str, str]:
    """Of every sealed dataset of the project, by id, oldest first."""
    query = select(DatasetRow.id, DatasetRow.fingerprint).where(DatasetRow.project_id == project_id)
    rows = session.execute(query.where(DatasetRow.fingerprint.is_not(None)).order_by(DatasetRow.id))
    return {row.id: row.fingerprint for row in rows}


def states(session: Session, project_id: str, /) -> dict[str, str]:
    """Every dataset of the project, by id."""
    query = select(DatasetRow.id, DatasetRow.state).where(DatasetRow.project_id == project_id)
    return {row.id: row.state for row in session.execute(query)}


def seal(
    row: DatasetRow,
    /,
    *,
    fingerprint: str,
    n_images: int,
    classes: Sequence[str],
    report: Mapping[str, Any],
) -> None:
    row.state = "sealed"
    row.fingerprint = fingerprint
    row.n_images = n_images
    row.n_classes = len(classes)
    row.classes = list(classes)
    row.report = dict(report)
    row.sealed_at = utc_now()


def refuse(row: DatasetRow, problem: Mapping[str, Any], /) -> None:
    row.state = "refused"
    row.problem = dict(problem)
