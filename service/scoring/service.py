"""Scoring one's own features: a request, a task, an answer."""

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy.orm import Session

from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from service.scoring import repository
from service.scoring.schemas import ScoringView
from service.scoring.tables import ScoringRow


def request(session: Session, project_id: str, source: Path, estimators: Sequence[str], /) -> ScoringView:
    row = repository.add_scoring(session, project_id, estimators)
    jobs.enqueue(
        session, project_id=project_id, kind=TaskKind.SCORE, subject_id=row.id, payload={"source": str(source)}
    )
    return view(row)


def show(session: Session, project_id: str, ident: str, /) -> ScoringView:
    return view(repository.get_scoring(session, project_id, ident))


def view(row: ScoringRow, /) -> ScoringView:
    return ScoringView.model_validate(
        {
            "id": row.id,
            "state": row.state,
            "estimators": row.estimators,
            "scores": row.scores or {},
            "error": row.error,
            "created_at": row.created_at,
            "finished_at": row.finished_at,
        }
    )
