"""What is shown of text encoders besides their scores: which layer of which encoder, and how many texts it cuts."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from service.models import repository as models
from service.rankings.schemas import EntryView, TextView
from service.rankings.tables import RankingRow
from service.scoring import repository as scoring
from service.scoring.evidence import Pair


def with_texts(
    session: Session, ranking: RankingRow, views: Sequence[EntryView], pairs: Mapping[str, Pair], version: int, /
) -> list[EntryView]:
    """Entries of a ranking of texts. `version` is that of the estimator that orders them."""
    rows = models.by_ids(session, ranking.project_id, [view.model_id for view in views])
    scores = scoring.of_versions(
        session, ranking.project_id, pairs, {ranking.ordered_by: version}, replicates_of=(), diagnostics=True
    )
    shown = []
    for view in views:
        score = scores.get(view.model_id, {}).get(ranking.ordered_by)
        cut = None if score is None else score.diagnostics.get("texts_cut")
        shown.append(view.model_copy(update={"text": _text(rows[view.model_id].card, cut)}))
    return shown


def _text(card: Mapping[str, Any], cut: int | None) -> TextView | None:
    settings = card.get("text")
    if settings is None:
        return None
    return TextView(
        encoder=card["weights"]["uri"],
        pooling=settings["pooling"],
        layer=settings["layer"],
        max_length=settings["max_length"],
        texts_cut=cut,
    )
