"""From a prescore's request to rankings and pairs, and from what became of them to what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from service.core.budget import Budget, budget_from
from service.core.clock import utc_now
from service.core.errors import InvalidRequest
from service.datasets import reference as references
from service.datasets import repository as datasets
from service.datasets.tables import DatasetRow
from service.embeddings.precision import extractor_ids
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind
from service.models import repository as models
from service.models.schemas import ModelFilter
from service.models.service import MAX_CANDIDATES
from service.models.tables import ModelRow
from service.prescores import repository
from service.prescores.schemas import PrescoreCreate
from service.prescores.selection import Pair
from service.prescores.tables import PrescorePairRow, PrescoreRow
from service.prescores.views import change_view
from service.rankings import repository as ranking_rows
from service.rankings import service as rankings
from service.recommendations import service as recommendations
from service.recommendations.model import Constraints
from service.scoring import repository as scoring
from service.scoring.evidence import Pair as Evidence
from service.scoring.evidence import needs_reference
from service.webhooks.events import Event
from service.webhooks.service import emit
from zoo.catalog import ModelCard

TOP = 3
MOST_PAIRS = 200_000
RANKING_REMOVED = "its ranking was removed"
SCORED_BEFORE = "it was scored before"


@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """`known` models have a score and go into the ranking as they are: extractor by model id."""

    dataset_id: str
    known: Mapping[str, str]
    before: Sequence[str]
    pairs: Sequence[Pair]


def request_of(row: PrescoreRow, /) -> PrescoreCreate:
    return PrescoreCreate.model_validate(row.request)


def budget_of(row: PrescoreRow, /) -> Budget | None:
    text = request_of(row).budget
    return None if text is None else budget_from(text)


def meant(session: Session, row: PrescoreRow, /) -> tuple[list[DatasetRow], list[ModelRow]]:
    """The datasets and models of a prescore that there are now."""
    request = request_of(row)
    if isinstance(request.models, list):
        found = [models.find(session, row.project_id, name) for name in request.models]
        rows = list({model.id: model for model in found if model is not None}.values())
    else:
        wanted = request.models if request.models is not None else ModelFilter()
        ids = models.matching_ids(session, row.project_id, wanted, limit=MAX_CANDIDATES)
        rows = list(models.by_ids(session, row.project_id, ids).values())
    return repository.sealed_datasets(session, row.project_id, request.datasets), rows


def extractors(session: Session, project_id: str, /) -> dict[str, str]:
    """By model id, of every model of the project whose weights are known."""
    ids = models.matching_ids(session, project_id, ModelFilter(), limit=MAX_CANDIDATES)
    pinned = {
        ident: (ModelCard.from_json(model.card), model.weights_sha256)
        for ident, model in models.by_ids(session, project_id, ids).items()
        if model.weights_sha256 is not None
    }
    cards = [(card, sha256) for card, sha256 in pinned.values() if sha256 is not None]
    return dict(zip(pinned, extractor_ids(session, project_id, cards), strict=True))


def scored(
    session: Session, project_id: str, dataset: DatasetRow, split: str, by_model: Mapping[str, str], /
) -> dict[str, str]:
    """Those of the models that have the score by which a ranking is ordered."""
    _, ordered_by = rankings.chosen_estimators(None, None)
    evidence = {
        ident: Evidence(fingerprint=dataset.fingerprint or "", split=split, extractor_id=extractor, reference=None)
        for ident, extractor in by_model.items()
    }
    found = scoring.current_scores(session, project_id, evidence, [ordered_by])
    return {ident: extractor for ident, extractor in by_model.items() if ordered_by in found[ident]}


def recommended(session: Session, project_id: str, dataset_id: str, /, *, ranking: str | None = None) -> list[str]:
    """The models that are recommended first. Before a prescore: by its last one, else by whatever ranking is newest."""
    of = ranking if ranking is not None else repository.newest_prescored_ranking(session, dataset_id)
    try:
        found = recommendations.recommend(session, project_id, dataset_id, Constraints(), ranking=of)
    except InvalidRequest:  # more models than can be looked at without a ranking
        return []
    return [entry.model for entry in found.entries if entry.rank is not None][:TOP]


def begin(
    session: Session, row: PrescoreRow, plans: Sequence[DatasetPlan], left: Sequence[tuple[Pair, str]], /
) -> None:
    """Writes the plan down: a ranking for each dataset with something to compute, and a row for every pair."""
    taken = [pair for plan in plans for pair in plan.pairs]
    if len(taken) + len(left) > MOST_PAIRS:
        raise InvalidRequest(
            f"{len(taken) + len(left):,} pairs are more than {MOST_PAIRS:,}: narrow the models or the datasets."
        )
    there = datasets.by_ids(session, row.project_id, [plan.dataset_id for plan in plans])
    for plan in plans:
        if plan.pairs and plan.dataset_id in there:
            _begin_dataset(session, row, plan)
    _add_pairs(session, row, taken, left)
    row.state = "running"


def _begin_dataset(session: Session, row: PrescoreRow, plan: DatasetPlan) -> None:
    estimators, ordered_by = rankings.chosen_estimators(None, None)
    dataset = datasets.get(session, row.project_id, plan.dataset_id)
    of_images = dataset.modality == "image"  # as the reference set is
    compared = of_images and any(map(needs_reference, estimators))
    reference = references.find(session, row.project_id) if compared else None
    wanted = [pair.model_id for pair in plan.pairs]
    ids = list(models.by_ids(session, row.project_id, [*plan.known, *wanted]))
    ranking = ranking_rows.add(
        session,
        row.project_id,
        dataset_id=plan.dataset_id,
        request={"dataset": plan.dataset_id, "models": ids},
        estimators=estimators,
        ordered_by=ordered_by,
        reference=reference,
        model_ids=ids,
        prescore_id=row.id,
    )
    for entry in ranking_rows.entries(session, ranking.id):
        if entry.model_id in plan.known:
            entry.state, entry.extractor_id = "done", plan.known[entry.model_id]
    repository.add_dataset(session, row.id, plan.dataset_id, ranking.id, plan.before)
    jobs.enqueue(
        session,
        project_id=row.project_id,
        kind=TaskKind.PLAN,
        subject_id=ranking.id,
        payload={},
        priority=Priority.BATCH,
    )


def _add_pairs(session: Session, row: PrescoreRow, taken: Sequence[Pair], left: Sequence[tuple[Pair, str]]) -> None:
    listed = [(pair, "open", None) for pair in taken] + [(pair, "skipped", reason) for pair, reason in left]
    known_models = models.by_ids(session, row.project_id, list({pair.model_id for pair, _, _ in listed}))
    known_sets = datasets.by_ids(session, row.project_id, list({pair.dataset_id for pair, _, _ in listed}))
    repository.add_pairs(
        session,
        [
            PrescorePairRow(
                prescore_id=row.id,
                place=place,
                dataset_id=pair.dataset_id,
                model_id=pair.model_id,
                images=pair.images,
                state=state,
                reason=reason,
            )
            for place, (pair, state, reason) in enumerate(listed)
            if pair.model_id in known_models and pair.dataset_id in known_sets
        ],
    )


def settle(session: Session, row: PrescoreRow, after: Mapping[str, Sequence[str]], /) -> None:
    """Closes the pairs of rankings that have ended, tells what changed, and ends the prescore with its last pair.

    `after` holds what is recommended now by dataset, of those whose ranking is done.
    """
    states = repository.rankings_of(session, row.id)
    for at in repository.datasets_of(session, row.id):
        state = states.get(at.ranking_id)
        if state is not None and (state not in ranking_rows.ENDED or (state == "done" and at.dataset_id not in after)):
            continue
        # A pair that time ran out for is closed, and its ranking may still bring others.
        pairs = repository.open_pairs(session, row.id, dataset_id=at.dataset_id)
        if not pairs:
            continue
        entries = {entry.model_id: entry for entry in ranking_rows.entries(session, at.ranking_id)}
        for pair in pairs:
            entry = entries.get(pair.model_id)
            if entry is None:
                pair.state, pair.reason = "skipped", RANKING_REMOVED
            else:
                pair.state, pair.reason = ("done" if entry.state == "done" else "failed"), entry.error
        if state == "done" and list(after[at.dataset_id]) != list(at.before):
            _tell(session, row, at.dataset_id, at.ranking_id, list(at.before), list(after[at.dataset_id]))
    session.flush()
    if not repository.open_pairs(session, row.id):
        row.state, row.finished_at = "done", utc_now()


def _tell(
    session: Session, row: PrescoreRow, dataset_id: str, ranking_id: str, before: list[str], after: list[str]
) -> None:
    change = repository.add_change(
        session,
        row.project_id,
        dataset_id=dataset_id,
        prescore_id=row.id,
        ranking_id=ranking_id,
        before=before,
        after=after,
    )
    view = change_view(change, datasets.get(session, row.project_id, dataset_id).name)
    data = view.model_dump(mode="json", include={"before", "after", "entered", "left", "ranking", "prescore"})
    data |= {"dataset": view.dataset_id, "name": view.dataset, "change": view.id}
    emit(session, row.project_id, Event.RECOMMENDATION_CHANGED, data)


def out_of_time(session: Session, row: PrescoreRow, /) -> bool:
    """Whether its budget of time is used up. The time begins with the first question."""
    budget = budget_of(row)
    if budget is None or budget.seconds is None:
        return False
    now = repository.now(session)
    if row.deadline is None:
        row.deadline = now + budget.seconds
    return now >= row.deadline
