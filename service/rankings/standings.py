"""Where one model stands in rankings of hundreds, without ordering any of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from estimators.catalog import SPECS
from estimators.score import Score
from service.datasets import repository as datasets
from service.models import repository as models
from service.rankings import repository
from service.rankings.ordering import standing
from service.rankings.repository import Entry
from service.rankings.schemas import DatasetBrief, ScoreView
from service.rankings.tables import RankingRow
from service.rankings.views import brief_dataset, pairs_of, score_view, why_not_comparable
from service.scoring import repository as scoring


@dataclass(frozen=True, slots=True)
class Standing:
    ranking: str
    dataset: DatasetBrief
    ordered_by: str
    created_at: datetime
    rank: int | None
    of: int  # models with a rank
    tied: int
    score: ScoreView | None
    error: str | None


def newest_standings(
    session: Session, project_id: str, model_id: str, /, *, limit: int, before: str | None = None
) -> tuple[list[Standing], str | None]:
    """In the newest ended ranking of each dataset that the model was in, and before which there are more, if any."""
    found = repository.newest_of_model(session, model_id, limit=limit + 1, before=before)
    standings = [_standing(session, project_id, ident, model_id) for ident in found[:limit]]
    return standings, found[limit - 1] if len(found) > limit else None


def _standing(session: Session, project_id: str, ident: str, model_id: str) -> Standing:
    row = repository.get(session, project_id, ident)
    dataset = datasets.get(session, project_id, row.dataset_id)
    entries = {entry.model_id: entry for entry in repository.read_entries(session, row.id)}
    pairs = pairs_of(row, entries, dataset.fingerprint or "")
    found = scoring.shown_scores(session, project_id, pairs, [row.ordered_by], diagnostics=False)
    stored = {ident: of[row.ordered_by] for ident, of in found.items() if row.ordered_by in of}
    scores = {
        ident: Score(value=kept.value, stderr=kept.stderr, replicates=kept.replicates)
        for ident, kept in stored.items()
        if kept.value is not None
    }
    same = {ident for ident, score in scores.items() if model_id in scores and score.value == scores[model_id].value}
    briefs = models.briefs(session, project_id, [model_id, *same])  # of equals the name decides
    ranked = dict(scores) if _comparable(session, row, entries) else {}
    rank, tied = standing(
        model_id,
        {ident: ranked.get(ident) for ident in entries},
        {ident: entry.sample for ident, entry in entries.items()},
        direction=SPECS[row.ordered_by].direction,
        names={ident: briefs[ident].name if ident in briefs else "" for ident in entries},
    )
    own = stored.get(model_id)
    return Standing(
        ranking=row.id,
        dataset=brief_dataset(dataset),
        ordered_by=row.ordered_by,
        created_at=row.created_at,
        rank=rank,
        of=len(ranked),
        tied=tied,
        score=None if own is None else score_view(own),
        error=entries[model_id].error,
    )


def _comparable(session: Session, row: RankingRow, entries: Mapping[str, Entry]) -> bool:
    if SPECS[row.ordered_by].comparable_across_width:
        return True
    done = models.briefs(
        session, row.project_id, [entry.model_id for entry in entries.values() if entry.state == "done"]
    )
    return why_not_comparable(row.ordered_by, [brief.feature_dim for brief in done.values()]) is None
