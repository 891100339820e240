"""Rankings as they are shown."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from estimators.catalog import SPECS
from estimators.score import Score
from service.core.pagination import MAX_LIMIT
from service.datasets import repository as datasets
from service.datasets.service import modality_of
from service.datasets.tables import DatasetRow
from service.embeddings import repository as embeddings
from service.jobs import repository as jobs
from service.jobs.model import TaskKind, TaskState
from service.models import repository as models
from service.rankings import racing, repository
from service.rankings.ordering import Ordered, order_by_sample
from service.rankings.pairs import pair_of
from service.rankings.repository import Entry
from service.rankings.schemas import (
    DatasetBrief,
    EntryView,
    Progress,
    RankingBrief,
    RankingPage,
    RankingStatus,
    RankingView,
    ReferenceBrief,
    ScoreView,
)
from service.rankings.tables import RankingRow
from service.rankings.texts import with_texts
from service.scoring import repository as scoring
from service.scoring.evidence import NEEDS_REFERENCE, Pair, needs_reference
from service.scoring.repository import StoredScore


def show(session: Session, project_id: str, ident: str, /) -> RankingView:
    row = repository.get(session, project_id, ident)
    return _view(session, row, _Wanted(first=None, whole=row.estimators, diagnostics=True))


def show_first(
    session: Session, project_id: str, ident: str, /, *, first: int | None, whole: Sequence[str] = ()
) -> RankingView:
    """The same without diagnostics; entries after the first so many have scores of `whole` and of what orders alone."""
    row = repository.get(session, project_id, ident)
    return _view(session, row, _Wanted(first=first, whole=[row.ordered_by, *whole], diagnostics=False))


def values(session: Session, project_id: str, ident: str, /) -> dict[str, dict[str, float]]:
    """By estimator and model's id."""
    row = repository.get(session, project_id, ident)
    dataset = datasets.get(session, project_id, row.dataset_id)
    entries = {entry.model_id: entry for entry in repository.read_entries(session, row.id)}
    pairs = pairs_of(row, entries, dataset.fingerprint or "")
    versions = _versions(session, row, pairs, row.estimators)
    known = {name: versions[name] for name in row.estimators if name in versions}
    return scoring.values_of(session, project_id, pairs, known)


@dataclass(frozen=True, slots=True)
class _Wanted:
    first: int | None  # entries with the scores of every estimator; None: all
    whole: Collection[str]  # estimators whose scores all entries have
    diagnostics: bool


def _view(session: Session, row: RankingRow, wanted: _Wanted) -> RankingView:
    dataset = datasets.get(session, row.project_id, row.dataset_id)
    entries = {entry.model_id: entry for entry in repository.read_entries(session, row.id)}
    views = _entries(session, row, entries, wanted, fingerprint=dataset.fingerprint or "")
    if modality_of(dataset) == "text":
        pairs = pairs_of(row, entries, dataset.fingerprint or "")
        version = _versions(session, row, pairs, [row.ordered_by]).get(row.ordered_by, 0)
        views = with_texts(session, row, views, pairs, version)
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


def state_of(session: Session, project_id: str, ident: str, /) -> str:
    return repository.get(session, project_id, ident).state


def dataset_of(session: Session, project_id: str, ident: str, /) -> str:
    return repository.get(session, project_id, ident).dataset_id


def progress_of(session: Session, project_id: str, ident: str, /) -> RankingStatus:
    row = repository.get(session, project_id, ident)
    return RankingStatus(
        id=row.id,
        state=row.state,
        progress=_progress(session, row, repository.read_entries(session, row.id)),
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


def pairs_of(ranking: RankingRow, entries: Mapping[str, Entry], fingerprint: str, /) -> dict[str, Pair]:
    return {
        ident: pair_of(ranking, fingerprint, entry.extractor_id, sample=entry.sample)
        for ident, entry in entries.items()
        if entry.extractor_id is not None and _has_scores(entry)
    }


def _versions(session: Session, ranking: RankingRow, pairs: Mapping[str, Pair], names: Sequence[str]) -> dict[str, int]:
    if ranking.state in repository.ENDED:
        return scoring.shown_versions(session, ranking.project_id, pairs, names)
    return {name: SPECS[name].version for name in names if name in SPECS}


def _entries(
    session: Session, ranking: RankingRow, entries: Mapping[str, Entry], wanted: _Wanted, *, fingerprint: str
) -> list[EntryView]:
    rows = models.briefs(session, ranking.project_id, list(entries))
    measured = embeddings.measured(
        session, ranking.project_id, [e.extractor_id for e in entries.values() if e.extractor_id]
    )
    pairs = pairs_of(ranking, entries, fingerprint)
    every = [name for name in ranking.estimators if wanted.first != 0 or name in wanted.whole]
    versions = _versions(session, ranking, pairs, every)

    def read(names: Collection[str], of: Mapping[str, Pair]) -> dict[str, dict[str, StoredScore]]:
        asked = {name: version for name, version in versions.items() if name in names}
        keys = [ranking.ordered_by]
        return scoring.of_versions(
            session, ranking.project_id, of, asked, replicates_of=keys, diagnostics=wanted.diagnostics
        )

    found = read(wanted.whole, pairs)
    places = _placed(ranking, entries, found, {ident: row.name for ident, row in rows.items()})
    shown = [place.model_id for place in places[: wanted.first]]
    others = set(every) - set(wanted.whole)
    if others:
        for ident, scores in read(others, {ident: pairs[ident] for ident in shown if ident in pairs}).items():
            found[ident] |= scores
    with_all = set(shown)
    views = []
    for place in places:
        entry, row = entries[place.model_id], rows[place.model_id]
        names = ranking.estimators if row.id in with_all else list(wanted.whole)
        costs = measured.get(entry.extractor_id or "", embeddings.NOT_MEASURED)
        views.append(
            EntryView(
                rank=place.rank,
                tied_with=[rows[other].name for other in place.tied_with],
                model=row.name,
                model_id=row.id,
                state=entry.state,
                scores=_score_views(ranking, names, found.get(row.id, {})) if _has_scores(entry) else {},
                sample=entry.sample,
                chance=entry.chance,
                dropped=entry.dropped,
                params=row.params,
                feature_dim=row.feature_dim,
                images_per_second=costs.images_per_second,
                forward_bytes=costs.forward_bytes,
                error=entry.error,
            )
        )
    return views


def _placed(
    ranking: RankingRow,
    entries: Mapping[str, Entry],
    found: Mapping[str, Mapping[str, StoredScore]],
    names: Mapping[str, str],
) -> list[Ordered]:
    """By rank; those without one last, and of them those that failed."""
    keyed: dict[str, Score | None] = {}
    for ident in entries:
        key = found.get(ident, {}).get(ranking.ordered_by)
        keyed[ident] = (
            Score(value=key.value, stderr=key.stderr, replicates=key.replicates)
            if key is not None and key.value is not None
            else None
        )
    samples = {ident: entry.sample for ident, entry in entries.items()}
    places = order_by_sample(keyed, samples, direction=SPECS[ranking.ordered_by].direction, names=names)
    return sorted(places, key=lambda at: (at.rank is None, at.rank or 0, entries[at.model_id].state == "failed"))


def _has_scores(entry: Entry) -> bool:
    return entry.state == "done" or (entry.sample is not None and entry.state != "failed")


def score_view(score: StoredScore, /) -> ScoreView:
    """Not validated, for its columns were: of ten thousand it would take a tenth of a second."""
    return ScoreView.model_construct(
        value=score.value,
        stderr=score.stderr,
        diagnostics=dict(score.diagnostics),
        degenerate=score.degenerate,
        seconds=score.seconds,
        version=score.version,
    )


def _score_views(
    ranking: RankingRow, estimators: Sequence[str], scores: Mapping[str, StoredScore]
) -> dict[str, ScoreView]:
    views = {}
    for name in estimators:
        if (score := scores.get(name)) is not None:
            views[name] = score_view(score)
        elif needs_reference(name) and ranking.reference_fingerprint is None:
            views[name] = ScoreView(value=None, stderr=None, diagnostics={}, degenerate=NEEDS_REFERENCE, seconds=0.0)
    return views


def _progress(session: Session, row: RankingRow, entries: Sequence[Entry]) -> Progress:
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
