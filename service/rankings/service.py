"""What can be done with rankings, one transaction each."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy.orm import Session

from estimators.catalog import SPECS, Need
from estimators.score import Score
from service.core.clock import utc_now
from service.core.pagination import MAX_LIMIT
from service.datasets import reference as references
from service.datasets import repository as datasets
from service.datasets.errors import DatasetInUse
from service.datasets.service import modality_of
from service.datasets.tables import DatasetRow
from service.embeddings import repository as embeddings
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind, TaskState
from service.models import repository as models
from service.models import service as catalog
from service.models.errors import ModelInUse
from service.rankings import racing, repository
from service.rankings.errors import DatasetRefusedForRanking, ReferenceNeeded
from service.rankings.ordering import order_by_sample
from service.rankings.pairs import pair_of as pair_of
from service.rankings.schemas import (
    DatasetBrief,
    EntryView,
    Progress,
    RankingBrief,
    RankingCreate,
    RankingPage,
    RankingStatus,
    RankingView,
    ReferenceBrief,
    ScoreView,
)
from service.rankings.tables import EntryRow, RankingRow
from service.scoring import repository as scoring
from service.scoring.errors import NotComparable, UnknownEstimator
from service.scoring.evidence import NEEDS_REFERENCE, OF_THE_REFERENCE, needs_reference
from service.scoring.panel import chosen
from service.scoring.repository import StoredScore
from service.webhooks.events import Event
from service.webhooks.service import emit

GATHERED = frozenset({Need.MOMENTS, Need.FEATURES, Need.SOURCE_PROBS}) | OF_THE_REFERENCE


def chosen_estimators(names: Sequence[str] | None, ordered_by: str | None, /) -> tuple[list[str], str]:
    """The estimators that a ranking computes and the one that orders it.

    Raises:
        UnknownEstimator: A name is unknown, or needs evidence that a ranking does not gather.
    """
    if names == ["all"]:
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


def why_not_comparable(estimator: str, widths: Iterable[int | None], /) -> str | None:
    """Why an estimator cannot order models of these numbers of features; None where it can."""
    known = sorted({width for width in widths if width is not None})
    if SPECS[estimator].comparable_across_width or len(known) < 2:
        return None
    listed = ", ".join(map(str, known[:4])) + (" …" if len(known) > 4 else "")
    return (
        f"'{estimator}' depends on the number of features, and the models differ in it ({listed}): "
        "order by another estimator, or rank models of one width."
    )


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


def show(session: Session, project_id: str, ident: str, /, *, order_alone: bool = False) -> RankingView:
    """With the scores of every estimator, or of the one alone that orders it."""
    row = repository.get(session, project_id, ident)
    dataset = datasets.get(session, project_id, row.dataset_id)
    entries = {entry.model_id: entry for entry in repository.entries(session, row.id)}
    estimators = [row.ordered_by] if order_alone else row.estimators
    views = _entries(session, row, entries, estimators, fingerprint=dataset.fingerprint or "")
    refusal = why_not_comparable(row.ordered_by, [view.feature_dim for view in views if view.state == "done"])
    if refusal is not None:  # known only now: the models' weights had not been seen when the ranking was asked for
        views = [view.model_copy(update={"rank": None, "tied_with": []}) for view in views]
    return RankingView(
        id=row.id,
        state=row.state,
        dataset=brief_dataset(dataset),
        split=row.split,
        reference=_reference(session, row),
        estimators=row.estimators,
        ordered_by=row.ordered_by,
        progress=_progress(session, row, list(entries.values())),
        race=racing.view(row),
        entries=views,
        error=row.error if refusal is None else {"title": "The models cannot be ordered", "detail": refusal},
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def state_of(session: Session, project_id: str, ident: str, /) -> str:
    return repository.get(session, project_id, ident).state


def progress_of(session: Session, project_id: str, ident: str, /) -> RankingStatus:
    row = repository.get(session, project_id, ident)
    return RankingStatus(
        id=row.id,
        state=row.state,
        progress=_progress(session, row, repository.entries(session, row.id)),
        race=racing.view(row),
    )


def list_rankings(
    session: Session, project_id: str, /, *, limit: int = 50, cursor: str | None = None, dataset_id: str | None = None
) -> RankingPage:
    page = repository.list_page(session, project_id, limit=min(limit, MAX_LIMIT), cursor=cursor, dataset_id=dataset_id)
    known = datasets.briefs(session, project_id, [row.dataset_id for row in page.items])
    counts = repository.count_entries(session, [row.id for row in page.items])
    items = [
        RankingBrief(
            id=row.id,
            state=row.state,
            dataset=brief_dataset(known[row.dataset_id]),
            ordered_by=row.ordered_by,
            n_models=counts.get(row.id, 0),
            created_at=row.created_at,
            finished_at=row.finished_at,
        )
        for row in page.items
    ]
    return RankingPage(items=items, next_cursor=page.next_cursor)


def brief_dataset(row: DatasetRow, /) -> DatasetBrief:
    return DatasetBrief(
        id=row.id,
        name=row.name,
        modality=modality_of(row),
        fingerprint=row.fingerprint,
        n_images=row.n_images,
        n_classes=row.n_classes,
    )


def _reference(session: Session, row: RankingRow) -> ReferenceBrief | None:
    if row.reference_dataset_id is None or row.reference_fingerprint is None:
        return None
    dataset = datasets.briefs(session, row.project_id, [row.reference_dataset_id]).get(row.reference_dataset_id)
    name = None if dataset is None else dataset.name
    return ReferenceBrief(id=row.reference_dataset_id, name=name, fingerprint=row.reference_fingerprint)


def _entries(
    session: Session,
    ranking: RankingRow,
    entries: Mapping[str, EntryRow],
    estimators: Sequence[str],
    *,
    fingerprint: str,
) -> list[EntryView]:
    rows = models.by_ids(session, ranking.project_id, list(entries))
    speeds = embeddings.speeds(
        session, ranking.project_id, [e.extractor_id for e in entries.values() if e.extractor_id]
    )
    pairs = {
        ident: pair_of(ranking, fingerprint, entry.extractor_id, sample=entry.sample)
        for ident, entry in entries.items()
        if entry.extractor_id is not None and _has_scores(entry)
    }
    look = scoring.shown_scores if ranking.state in repository.ENDED else scoring.current_scores
    stored = look(session, ranking.project_id, pairs, estimators, replicates_of=[ranking.ordered_by])
    found = {ident: stored.get(ident, {}) for ident in entries}
    names = {ident: row.name for ident, row in rows.items()}
    keyed: dict[str, Score | None] = {}
    for ident, scores in found.items():
        key = scores.get(ranking.ordered_by)
        keyed[ident] = (
            Score(value=key.value, stderr=key.stderr, replicates=key.replicates)
            if key is not None and key.value is not None
            else None
        )
    views = []
    samples = {ident: entry.sample for ident, entry in entries.items()}
    for place in order_by_sample(keyed, samples, direction=SPECS[ranking.ordered_by].direction, names=names):
        entry, row = entries[place.model_id], rows[place.model_id]
        views.append(
            EntryView(
                rank=place.rank,
                tied_with=[names[other] for other in place.tied_with],
                model=row.name,
                model_id=row.id,
                state=entry.state,
                scores=_score_views(ranking, estimators, found[row.id]) if _has_scores(entry) else {},
                sample=entry.sample,
                chance=entry.chance,
                dropped=entry.dropped,
                params=row.params,
                feature_dim=row.feature_dim,
                images_per_second=speeds.get(entry.extractor_id or ""),
                error=entry.error,
            )
        )
    views.sort(key=lambda v: (v.rank is None, v.rank or 0, v.state == "failed"))
    return views


def _has_scores(entry: EntryRow) -> bool:
    return entry.state == "done" or (entry.sample is not None and entry.state != "failed")


def _score_views(
    ranking: RankingRow, estimators: Sequence[str], scores: Mapping[str, StoredScore]
) -> dict[str, ScoreView]:
    views = {}
    for name in estimators:
        if (score := scores.get(name)) is not None:
            views[name] = ScoreView(
                value=score.value,
                stderr=score.stderr,
                diagnostics=dict(score.diagnostics),
                degenerate=score.degenerate,
                seconds=score.seconds,
                version=score.version,
            )
        elif needs_reference(name) and ranking.reference_fingerprint is None:
            views[name] = ScoreView(value=None, stderr=None, diagnostics={}, degenerate=NEEDS_REFERENCE, seconds=0.0)
    return views


def _progress(session: Session, row: RankingRow, entries: Sequence[EntryRow]) -> Progress:
    tasks = [t for t in jobs.tasks_of(session, row.id) if t.kind is TaskKind.EMBED]
    embedded = sum(int(t.progress.get("images_embedded", 0)) for t in tasks)
    to_embed = sum(int(t.progress.get("images_to_embed", t.payload.get("images", 0))) for t in tasks)
    running = [t.progress for t in tasks if t.state is TaskState.RUNNING]
    rate = sum(float(p.get("images_per_second") or 0.0) for p in running) or None
    ended = row.state in repository.ENDED
    return Progress(
        models_done=sum(entry.state in {"done", "failed"} for entry in entries),
        models_total=len(entries),
        images_embedded=embedded,
        images_to_embed=to_embed,
        images_per_second=None if ended else rate,
        seconds_left=0.0 if ended else ((to_embed - embedded) / rate if rate else None),
        stage_seconds={
            stage: sum(float(t.progress.get("stage_seconds", {}).get(stage, 0.0)) for t in tasks)
            for stage in ("decode", "forward", "write")
        },
        stage=row.state if ended else next((str(p["stage"]) for p in running if "stage" in p), row.state),
    )
