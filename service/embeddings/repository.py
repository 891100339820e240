"""Rows of segments and extractors."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.embeddings.model import WrittenSegment
from service.embeddings.protocol import Kind, StoreKey
from service.embeddings.tables import ExtractorRow, PrecisionRow, SegmentRow
from zoo.catalog import Precision


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    id: str
    key: StoreKey
    n_rows: int
    dim: int
    bytes: int
    vectors_sha256: str
    hashes_sha256: str


def add_segment(session: Session, segment_id: str, key: StoreKey, written: WrittenSegment, /) -> None:
    session.add(
        SegmentRow(
            id=segment_id,
            project_id=key.project_id,
            extractor_id=key.extractor_id,
            kind=key.kind,
            state="active",
            n_rows=written.n_rows,
            dim=written.dim,
            bytes=written.bytes,
            vectors_sha256=written.vectors_sha256,
            hashes_sha256=written.hashes_sha256,
            created_at=utc_now(),
        )
    )


def active_segments(session: Session, key: StoreKey, /) -> list[SegmentInfo]:
    query = (
        select(SegmentRow)
        .where(
            SegmentRow.project_id == key.project_id,
            SegmentRow.extractor_id == key.extractor_id,
            SegmentRow.kind == key.kind,
            SegmentRow.state == "active",
        )
        .order_by(SegmentRow.id)
    )
    return [_info(row) for row in session.scalars(query)]


def all_segments(session: Session, project_id: str, /) -> list[SegmentInfo]:
    query = select(SegmentRow).where(SegmentRow.project_id == project_id).order_by(SegmentRow.id)
    return [_info(row) for row in session.scalars(query)]


def segment_ids(session: Session, ids: Sequence[str], /) -> set[str]:
    return set(session.scalars(select(SegmentRow.id).where(SegmentRow.id.in_(ids))))


def delete_segments(session: Session, ids: Iterable[str], /) -> None:
    session.execute(delete(SegmentRow).where(SegmentRow.id.in_(list(ids))))


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


def speeds(session: Session, project_id: str, extractor_ids: Sequence[str], /) -> dict[str, float]:
    query = select(ExtractorRow.id, ExtractorRow.images_per_second).where(
        ExtractorRow.project_id == project_id,
        ExtractorRow.id.in_(extractor_ids),
        ExtractorRow.images_per_second.is_not(None),
    )
    return {row.id: row.images_per_second for row in session.execute(query)}


def precisions(session: Session, project_id: str, float32_ids: Sequence[str], /) -> dict[str, Precision]:
    query = select(PrecisionRow.extractor_id, PrecisionRow.precision).where(
        PrecisionRow.project_id == project_id, PrecisionRow.extractor_id.in_(float32_ids)
    )
    return {row.extractor_id: cast(Precision, row.precision) for row in session.execute(query)}


def _info(row: SegmentRow) -> SegmentInfo:
    key = StoreKey(row.project_id, row.extractor_id, Kind(row.kind))
    return SegmentInfo(row.id, key, row.n_rows, row.dim, row.bytes, row.vectors_sha256, row.hashes_sha256)
