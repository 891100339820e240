"""How prescores, their pairs and what they changed are shown."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from service.prescores import repository
from service.prescores.repository import PairFound
from service.prescores.schemas import ChangeView, PairCounts, PairView, PrescoreView
from service.prescores.tables import PrescoreRow, RecommendationChangeRow


def prescore_views(session: Session, rows: Sequence[PrescoreRow], /) -> list[PrescoreView]:
    ids = [row.id for row in rows]
    counted, images = repository.counts(session, ids), repository.images(session, ids)
    return [
        PrescoreView.model_validate(
            {
                "id": row.id,
                "state": row.state,
                "request": row.request,
                "scheduled": row.scheduled,
                "pairs": PairCounts(**counted[row.id]),
                "images_to_embed": images.get(row.id, 0),
                "rankings": [at.ranking_id for at in repository.datasets_of(session, row.id)],
                "error": row.error,
                "created_at": row.created_at,
                "finished_at": row.finished_at,
            }
        )
        for row in rows
    ]


def change_view(row: RecommendationChangeRow, dataset: str, /) -> ChangeView:
    return ChangeView(
        id=row.id,
        dataset=dataset,
        dataset_id=row.dataset_id,
        before=row.before,
        after=row.after,
        entered=[name for name in row.after if name not in row.before],
        left=[name for name in row.before if name not in row.after],
        ranking=row.ranking_id,
        prescore=row.prescore_id,
        created_at=row.created_at,
    )


def pair_view(found: PairFound, /) -> PairView:
    return PairView.model_validate(
        {
            "dataset": found.dataset,
            "dataset_id": found.pair.dataset_id,
            "model": found.model,
            "model_id": found.pair.model_id,
            "state": found.pair.state if found.pair.state != "open" else found.entry_state or "waiting",
            "reason": found.pair.reason,
            "images": found.pair.images,
            "ranking": found.ranking_id,
        }
    )
