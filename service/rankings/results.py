"""What a worker found out about one model of a ranking, and how it is written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

from service.embeddings import repository as embeddings
from service.jobs.fate import Cause
from service.keys.repository import lock_project
from service.models import repository as models
from service.rankings import repository
from service.rankings.pairs import pair_of
from service.rankings.tables import RankingRow
from service.scoring import repository as scoring
from service.scoring.repository import StoredScore
from zoo.catalog import ModelCard


@dataclass(frozen=True, slots=True)
class Scored:
    card: ModelCard  # with its weights pinned
    params: int
    extractor_id: str
    scores: tuple[StoredScore, ...] | None  # None: a shard was embedded, and what is scored is all of them
    device: str
    images_per_second: float | None  # of the forward pass; None when nothing had to be embedded
    forward_bytes: int | None = None  # weights and tensors while one image passes; None where nothing was loaded
    identity: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failed:
    reason: str
    cause: Cause = Cause.BROKEN


def record(
    session: Session,
    ranking: RankingRow,
    model_id: str,
    outcome: Scored | Failed,
    /,
    *,
    fingerprint: str,
    sample: int | None = None,
) -> None:
    """Writes one model's outcome; the caller's transaction has checked the task's fence."""
    entry = next((e for e in repository.entries(session, ranking.id) if e.model_id == model_id), None)
    if entry is None:
        return  # the model or the ranking was removed meanwhile
    if isinstance(outcome, Failed):
        entry.state, entry.error = "failed", outcome.reason
        return
    if outcome.scores is not None:
        models.forget_failures(session, model_id, fingerprint=fingerprint)
    project_id = ranking.project_id
    # Two rankings may find out the same at once: the second waits, and then sees what the first has stored.
    lock_project(session, project_id)
    row = models.get(session, project_id, model_id)
    if row.weights_sha256 is None or row.params is None or row.state != "ready":
        models.pin(session, row, outcome.card, params=outcome.params)
    embeddings.record_extractor(session, project_id, outcome.extractor_id, identity=outcome.identity)
    if outcome.images_per_second is not None:
        embeddings.record_speed(
            session,
            project_id,
            outcome.extractor_id,
            images_per_second=outcome.images_per_second,
            device=outcome.device,
        )
    if outcome.forward_bytes is not None:
        embeddings.record_memory(session, project_id, outcome.extractor_id, forward_bytes=outcome.forward_bytes)
    entry.extractor_id, entry.sample = outcome.extractor_id, sample
    if outcome.scores is None:
        return
    scoring.record(
        session,
        outcome.scores,
        pair_of(ranking, fingerprint, outcome.extractor_id, sample=sample),
        project_id=project_id,
    )
    entry.state, entry.error = "done", None
