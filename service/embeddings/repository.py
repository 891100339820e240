"""Rows of segments and extractors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from sqlalchemy import delete, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.embeddings.model import Kind, SegmentInfo, StoreKey, WrittenSegment
from service.embeddings.tables import ExtractorRow, PrecisionRow, SegmentRow
from zoo.catalog import Precision


@dataclass(frozen=True, slots=True)
class Measured:
    """What a worker measured of an extractor."""

    images_per_second: float | None
    forward_bytes: int | None


NOT_MEASURED = Measured(None, None)


def add_segment(
    session: Session, segment_id: str, key: StoreKey, written: WrittenSegment, /, *, created_at: datetime | None = None
) -> None:
    session.add(
        SegmentRow(
            id=segment_id,
            project_id=key.project_id,
            extractor_id=key.extractor_id,
            kind=key.kind,
            state="active",
            storage=written.storage,
            n_rows=written.n_rows,
            dim=written.dim,
            bytes=written.bytes,
            vectors_sha256=written.vectors_sha256,
            hashes_sha256=written.hashes_sha256,
            created_at=created_at or utc_now(),
        )
    )


def active_segments(session: Session, key: StoreKey, /) -> list[SegmentInfo]:
    """In the order in which they answer: where two hold the same hash, the first one's row counts."""
    query = _SEGMENTS.where(
        SegmentRow.project_id == key.project_id,
        SegmentRow.extractor_id == key.extractor_id,
        SegmentRow.kind == key.kind,
        SegmentRow.state == "active",
    ).order_by(SegmentRow.created_at, SegmentRow.id)
    return [_info(*row) for row in session.execute(query)]


def all_segments(session: Session, project_id: str, /) -> list[SegmentInfo]:
    query = _SEGMENTS.where(SegmentRow.project_id == project_id).order_by(SegmentRow.created_at, SegmentRow.id)
    return [_info(*row) for row in session.execute(query)]


def segment_ids(session: Session, project_id: str, /) -> set[str]:
    return set(session.scalars(select(SegmentRow.id).where(SegmentRow.project_id == project_id)))


def retire_segments(session: Session, ids: Sequence[str], /, *, state: Literal["superseded", "damaged"]) -> bool:
    """Takes segments out of use; False, and nothing to be committed, where one of them is not in use any more."""
    done = session.execute(
        update(SegmentRow)
        .where(SegmentRow.id.in_(ids), SegmentRow.state == "active")
        .values(state=state, superseded_at=utc_now())
        .execution_options(synchronize_session=False)
    )
    return isinstance(done, CursorResult) and done.rowcount == len(ids)


def delete_segments(session: Session, ids: Sequence[str], /) -> None:
    session.execute(delete(SegmentRow).where(SegmentRow.id.in_(ids)))


def record_extractor(session: Session, project_id: str, extractor_id: str, /, *, identity: Mapping[str, Any]) -> None:
    if session.get(ExtractorRow, (project_id, extractor_id)) is None:
        session.add(ExtractorRow(project_id=project_id, id=extractor_id, identity=dict(identity), created_at=utc_now()))
        session.flush()


def record_speed(
    session: Session, project_id: str, extractor_id: str, /, *, images_per_second: float, device: str
) -> None:
    session.execute(
        update(ExtractorRow)
        .where(ExtractorRow.project_id == project_id, ExtractorRow.id == extractor_id)
        .values(images_per_second=images_per_second, device=device)
    )


def record_memory(session: Session, project_id: str, extractor_id: str, /, *, forward_bytes: int) -> None:
    session.execute(
        update(ExtractorRow)
        .where(ExtractorRow.project_id == project_id, ExtractorRow.id == extractor_id)
        .values(forward_bytes=forward_bytes)
    )


def measured(session: Session, project_id: str, extractor_ids: Sequence[str], /) -> dict[str, Measured]:
    query = select(ExtractorRow.id, ExtractorRow.images_per_second, ExtractorRow.forward_bytes).where(
        ExtractorRow.project_id == project_id, ExtractorRow.id.in_(extractor_ids)
    )
    return {row.id: Measured(row.images_per_second, row.forward_bytes) for row in session.execute(query)}


def speeds(
    session: Session, project_id: str, extractor_ids: Sequence[str], /, *, on_cpu: bool | None = None
) -> dict[str, float]:
    """Images a second, measured on any device, or on a CPU or a GPU alone."""
    query = select(ExtractorRow.id, ExtractorRow.images_per_second).where(
        ExtractorRow.project_id == project_id,
        ExtractorRow.id.in_(extractor_ids),
        ExtractorRow.images_per_second.is_not(None),
    )
    if on_cpu is not None:
        query = query.where(ExtractorRow.device == "cpu" if on_cpu else ExtractorRow.device != "cpu")
    return {row.id: row.images_per_second for row in session.execute(query)}


def precisions(session: Session, project_id: str, float32_ids: Sequence[str], /) -> dict[str, Precision]:
    query = select(PrecisionRow.extractor_id, PrecisionRow.precision).where(
        PrecisionRow.project_id == project_id, PrecisionRow.extractor_id.in_(float32_ids)
    )
    return {row.extractor_id: cast(Precision, row.precision) for row in session.execute(query)}


_SEGMENTS = select(
    SegmentRow.id,
    SegmentRow.project_id,
    SegmentRow.extractor_id,
    SegmentRow.kind,
    SegmentRow.state,
    SegmentRow.storage,
    SegmentRow.n_rows,
    SegmentRow.dim,
    SegmentRow.bytes,
    SegmentRow.vectors_sha256,
    SegmentRow.hashes_sha256,
    SegmentRow.created_at,
    SegmentRow.superseded_at,
)


def _info(ident: str, project_id: str, extractor_id: str, kind: str, *rest: Any) -> SegmentInfo:
    return SegmentInfo(ident, StoreKey(project_id, extractor_id, Kind(kind)), *rest)
