"""Stored scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.scoring.tables import ScoreRow, ScoringRow


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A score as it is kept: either a value, or the reason why there is none."""

    estimator: str
    version: int
    params_id: str
    value: float | None
    stderr: float | None
    degenerate: str | None
    seconds: float
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    replicates: tuple[float, ...] = ()


def scores_for(session: Session, project_id: str, evidence_ids: Sequence[str], /) -> dict[str, list[StoredScore]]:
    """Every score on each evidence id."""
    found: dict[str, list[StoredScore]] = {}
    for start in range(0, len(evidence_ids), 500):
        query = select(ScoreRow).where(
            ScoreRow.project_id == project_id, ScoreRow.evidence_id.in_(evidence_ids[start : start + 500])
        )
        for row in session.scalars(query):
            found.setdefault(row.evidence_id, []).append(_stored(row))
    return found


def record(
    session: Session,
    scores: Sequence[StoredScore],
    /,
    *,
    project_id: str,
    evidence_id: str,
    fingerprint: str,
    extractor_id: str,
) -> None:
    """Keeps what is new; a score that is already there stays."""
    known = {
        (s.estimator, s.version, s.params_id)
        for s in scores_for(session, project_id, [evidence_id]).get(evidence_id, [])
    }
    for score in scores:
        if (score.estimator, score.version, score.params_id) in known:
            continue
        session.add(
            ScoreRow(
                id=new_id("sc"),
                project_id=project_id,
                evidence_id=evidence_id,
                fingerprint=fingerprint,
                extractor_id=extractor_id,
                estimator=score.estimator,
                version=score.version,
                params_id=score.params_id,
                value=score.value,
                stderr=score.stderr,
                replicates=list(score.replicates),
                diagnostics=dict(score.diagnostics),
                degenerate=score.degenerate,
                seconds=score.seconds,
                created_at=utc_now(),
            )
        )


def delete_for_fingerprint(session: Session, project_id: str, fingerprint: str, /) -> None:
    session.execute(delete(ScoreRow).where(ScoreRow.project_id == project_id, ScoreRow.fingerprint == fingerprint))


def _stored(row: ScoreRow) -> StoredScore:
    return StoredScore(
        estimator=row.estimator,
        version=row.version,
        params_id=row.params_id,
        value=row.value,
        stderr=row.stderr,
        degenerate=row.degenerate,
        seconds=row.seconds,
        diagnostics=row.diagnostics,
        replicates=tuple(row.replicates),
    )


def add_scoring(session: Session, project_id: str, estimators: Sequence[str], /) -> ScoringRow:
    row = ScoringRow(
        id=new_id("so"), project_id=project_id, estimators=list(estimators), state="queued", created_at=utc_now()
    )
    session.add(row)
    session.flush()
    return row


def get_scoring(session: Session, project_id: str, ident: str, /) -> ScoringRow:
    row = session.get(ScoringRow, ident)
    if row is None or row.project_id != project_id:
        raise NotFound("scoring", ident)
    return row
