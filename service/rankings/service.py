"""What can be done with rankings, one transaction each."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from estimators.catalog import SPECS, Need
from service.core.clock import utc_now
from service.datasets import reference as references
from service.datasets import repository as datasets
from service.datasets.errors import DatasetInUse
from service.datasets.service import modality_of
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind
from service.models import repository as models
from service.models import service as catalog
from service.models.errors import ModelInUse
from service.rankings import racing, repository
from service.rankings.errors import DatasetRefusedForRanking, ReferenceNeeded
from service.rankings.pairs import pair_of as pair_of
from service.rankings.schemas import RankingCreate
from service.rankings.tables import EntryRow, RankingRow
from service.rankings.views import brief_dataset as brief_dataset
from service.rankings.views import dataset_of as dataset_of
from service.rankings.views import list_rankings as list_rankings
from service.rankings.views import progress_of as progress_of
from service.rankings.views import show as show
from service.rankings.views import show_first as show_first
from service.rankings.views import state_of as state_of
from service.rankings.views import values as values
from service.rankings.views import why_not_comparable as why_not_comparable
from service.scoring import repository as scoring
from service.scoring.errors import NotComparable, UnknownEstimator
from service.scoring.evidence import NEEDS_REFERENCE, OF_THE_REFERENCE, needs_reference
from service.scoring.panel import chosen
from service.webhooks.events import Event
from service.webhooks.service import emit

CANCELLED = "The ranking was cancelled before its turn came."
GATHERED = frozenset({Need.MOMENTS, Need.FEATURES, Need.SOURCE_PROBS}) | OF_THE_REFERENCE


def chosen_estimators(names: Sequence[str] | None, ordered_by: str | None, /) -> tuple[list[str], str]:
    """The estimators that a ranking computes and the one that orders it.

    Raises:
        UnknownEstimator: A name is unknown, or needs evidence that a ranking does not gather.
    """
    if names is not None and "all" in [name.strip() for name in names]:
        names = [name for name, spec in SPECS.items() if spec.needs <= GATHERED]
    wanted = chosen(names)
    for name in chosen([*wanted, *([ordered_by] if ordered_by is not None else [])]):
        if not SPECS[name].needs <= GATHERED:
            lacking = ", ".join(sorted(SPECS[name].needs - GATHERED))
            raise UnknownEstimator(f"'{name}' needs {lacking}, which a ranking does not gather.")
    if ordered_by is not None and ordered_by not in wanted:
        wanted.append(ordered_by)
    if ordered_by is None:
        # By what can be compared between any two models and needs nothing else, if there is such a one.
        ordered_by = "logme" if "logme" in wanted else min(wanted, key=needs_reference)
    return wanted, ordered_by


def create(session: Session, project_id: str, request: RankingCreate, /) -> RankingRow:
    dataset = datasets.get(session, project_id, request.dataset)
    if dataset.state == "refused":
        raise DatasetRefusedForRanking(f"Dataset '{dataset.name}' was refused: {(dataset.problem or {}).get('detail')}")
    named = request.estimators
    if named is None and request.budget is not None:
        named = list(racing.PANEL)
    estimators, ordered_by = chosen_estimators(named, request.ordered_by)
    of_images = dataset.modality == "image"  # as the reference set is
    reference = references.find(session, project_id) if of_images and any(map(needs_reference, estimators)) else None
    if reference is None and needs_reference(ordered_by):
        raise ReferenceNeeded(f"To order models by it, '{ordered_by}' {NEEDS_REFERENCE}.")
    candidates = catalog.resolve_candidates(session, project_id, request.models, modality=modality_of(dataset))
    refusal = why_not_comparable(ordered_by, [model.feature_dim for model in candidates])
    if refusal is not None:
        raise NotComparable(refusal)
    row = repository.add(
        session,
        project_id,
        dataset_id=dataset.id,
        request=request.model_dump(mode="json", exclude_none=True),
        estimators=estimators,
        ordered_by=ordered_by,
        reference=reference,
        model_ids=[model.id for model in candidates],
        raced=request.budget is not None,
    )
    jobs.enqueue(
        session,
        project_id=project_id,
        kind=TaskKind.PLAN,
        subject_id=row.id,
        payload={},
        priority=Priority.CONTROL,
    )
    return row


def close_if_complete(session: Session, ranking: RankingRow, /, *, finishing_task: str) -> None:
    """Ends the ranking when its last task ends. The caller holds the ranking's row lock, so that one of them does."""
    if ranking.state in repository.ENDED or jobs.count_open(session, ranking.id, besides=finishing_task):
        return
    if ranking.race is not None and racing.advance(session, ranking):
        return
    entries = repository.entries(session, ranking.id)
    for entry in entries:
        if entry.state not in {"done", "failed"}:
            entry.state, entry.error = "failed", "The work on it ended without an answer."
    ranking.finished_at = utc_now()
    if any(entry.state == "done" for entry in entries):
        ranking.state = "done"
    else:
        ranking.state = "failed"
        ranking.error = {"title": "No model could be scored", "detail": "Every candidate failed; see the entries."}
    happened = Event.RANKING_COMPLETED if ranking.state == "done" else Event.RANKING_FAILED
    _tell(session, happened, ranking, entries)
    _wake_prescore(session, ranking)


def _wake_prescore(session: Session, ranking: RankingRow) -> None:
    """In the transaction that ends the ranking, so that no prescore waits for one that has ended."""
    if ranking.prescore_id is not None:
        jobs.enqueue(
            session,
            project_id=ranking.project_id,
            kind=TaskKind.PRESCORE,
            subject_id=ranking.prescore_id,
            payload={},
            priority=Priority.CONTROL,
        )


def _tell(session: Session, event: Event, ranking: RankingRow, entries: Sequence[EntryRow]) -> None:
    data = {
        "ranking": ranking.id,
        "dataset": ranking.dataset_id,
        "models": len(entries),
        "models_failed": sum(entry.state == "failed" for entry in entries),
    }
    emit(session, ranking.project_id, event, data)


def cancel(session: Session, project_id: str, ident: str, /) -> None:
    """Stops a ranking and keeps what was scored; one that has ended stays as it is."""
    row = repository.get(session, project_id, ident, lock=True)
    if row.state in repository.ENDED:
        return
    jobs.cancel_subject(session, row.id)
    entries = repository.entries(session, row.id)
    for entry in entries:
        if entry.state not in {"done", "failed"}:
            scored = entry.sample is not None  # on the sample of a race's last rung
            entry.state, entry.error = ("done", None) if scored else ("failed", CANCELLED)
    row.state, row.finished_at = "cancelled", utc_now()
    _tell(session, Event.RANKING_CANCELLED, row, entries)
    _wake_prescore(session, row)


def remove(session: Session, project_id: str, ident: str, /) -> None:
    row = repository.get(session, project_id, ident, lock=True)
    if row.state not in repository.ENDED:
        _tell(session, Event.RANKING_CANCELLED, row, repository.entries(session, row.id))
        _wake_prescore(session, row)
    jobs.cancel_subject(session, row.id)
    jobs.delete_subject(session, row.id)
    session.delete(row)


def remove_dataset(session: Session, project_id: str, ident: str, /, *, purge: bool = False) -> None:
    """Takes a dataset's row, rankings and scores at once; its images go by a collection, with `purge` without grace.

    Raises:
        DatasetInUse: It is the reference set, or a ranking that has not ended is computed against it.
    """
    row = datasets.get(session, project_id, ident)
    references.refuse_removal(session, project_id, row.id)
    still = repository.open_rankings_against(session, project_id, row.id)
    if still:
        raise DatasetInUse(f"Ranking {still[0]} is computed against '{row.name}': wait for it or remove it first.")
    for ranking_id in repository.ids_of_dataset(session, row.id):
        remove(session, project_id, ranking_id)
    jobs.enqueue_collection(session, project_id, purge=purge, uploads=jobs.sources_of(session, row.id))
    jobs.delete_subject(session, row.id)
    if row.fingerprint and datasets.count_fingerprint(session, project_id, row.fingerprint) == 1:
        scoring.delete_for_fingerprint(session, project_id, row.fingerprint)
    session.delete(row)


def remove_model(session: Session, project_id: str, ident: str, /) -> None:
    """Takes a model's row and its entries in ended rankings.

    Raises:
        ModelInUse: A ranking that has not ended needs it.
    """
    row = models.get(session, project_id, ident)
    still = repository.open_rankings_of_model(session, row.id)
    if still:
        raise ModelInUse(f"Ranking {still[0]} is still working on '{row.name}': wait for it or remove it first.")
    catalog.remove(session, project_id, row.id)
