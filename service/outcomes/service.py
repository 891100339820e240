"""Recording what fine-tuning gave. A project's outcomes are its own."""

from collections.abc import Iterator, Sequence

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.ids import new_id
from service.core.pagination import MAX_LIMIT
from service.datasets import repository as datasets
from service.datasets.tables import DatasetRow
from service.keys.repository import lock_project
from service.models import repository as models
from service.models.tables import ModelRow
from service.outcomes import repository
from service.outcomes.intervals import wilson
from service.outcomes.schemas import OutcomeCreate, OutcomePage, OutcomesAdded, OutcomeView
from service.outcomes.tables import OutcomeRow

SHOWN = 100
NAMED = 20


def record(
    session: Session,
    project_id: str,
    given: Sequence[OutcomeCreate],
    /,
    *,
    weights_sha256: str | None = None,
    extractor_id: str | None = None,
) -> OutcomesAdded:
    """Adds what is new. Of a pair and recipe that are given twice, the later one holds.

    Names that the project knows are tied to its dataset and model; others stay names, for what was measured elsewhere
    is knowledge too. Who measured it here says which weights and features it was; else the model's card does.
    """
    lock_project(session, project_id)
    known_datasets = {name: datasets.find(session, project_id, name) for name in {o.dataset for o in given}}
    known_models = {name: models.find(session, project_id, name) for name in {o.model for o in given}}
    subjects = {name: _subject(name, row) for name, row in known_datasets.items()}
    for found in known_datasets.values():
        if found is not None and found.fingerprint is not None:
            repository.tie(session, project_id, found.id, found.fingerprint)
    holds = repository.latest(session, project_id, set(subjects.values()))
    added: list[OutcomeRow] = []
    asked: dict[repository.Key, OutcomeRow] = {}
    superseded = 0
    rows = [_row(project_id, o, subjects[o.dataset], known_datasets[o.dataset], known_models[o.model]) for o in given]
    for row in rows:
        row.weights_sha256, row.extractor_id = weights_sha256 or row.weights_sha256, extractor_id
    last = {_key(row): row for row in rows}
    told = {key for key, row in last.items() if key in holds and _same(holds[key], row)}
    for row in rows:
        key = _key(row)
        before = holds.get(key)
        if before is not None and (key in told or _same(before, row)):
            asked[key] = before
            continue
        superseded += before is not None
        row.version = 1 if before is None else before.version + 1
        holds[key] = asked[key] = row
        added.append(row)
    repository.add(session, added)
    return OutcomesAdded(
        added=len(added),
        superseded=superseded,
        unchanged=len(given) - len(added),
        unknown_datasets=sorted(name for name, row in known_datasets.items() if row is None)[:NAMED],
        unknown_models=sorted(name for name, row in known_models.items() if row is None)[:NAMED],
        items=[_view(row) for row in list(asked.values())[:SHOWN]],
    )


def show(session: Session, project_id: str, ident: str, /) -> OutcomeView:
    return _view(repository.get(session, project_id, ident))


def list_outcomes(
    session: Session,
    project_id: str,
    /,
    *,
    limit: int = 50,
    cursor: str | None = None,
    dataset: str | None = None,
    model: str | None = None,
    recipe: str | None = None,
    history: bool = False,
) -> OutcomePage:
    page = repository.list_page(
        session,
        project_id,
        limit=min(limit, MAX_LIMIT),
        cursor=cursor,
        dataset=dataset,
        model=model,
        recipe=recipe,
        history=history,
    )
    return OutcomePage(items=[_view(row) for row in page.items], next_cursor=page.next_cursor)


def every(session: Session, project_id: str, /, *, history: bool = False) -> Iterator[OutcomeView]:
    """Oldest first; with `history`, also what was superseded."""
    return map(_view, repository.all_of(session, project_id, history=history))


def _key(row: OutcomeRow) -> repository.Key:
    return row.subject, row.model, row.recipe


def _subject(name: str, row: DatasetRow | None) -> str:
    return name if row is None or row.fingerprint is None else row.fingerprint


def _row(
    project_id: str,
    outcome: OutcomeCreate,
    subject: str,
    dataset: DatasetRow | None,
    model: ModelRow | None,
) -> OutcomeRow:
    return OutcomeRow(
        id=new_id("oc"),
        project_id=project_id,
        subject=subject,
        dataset=outcome.dataset if dataset is None else dataset.name,
        dataset_id=None if dataset is None else dataset.id,
        fingerprint=None if dataset is None else dataset.fingerprint,
        model=outcome.model if model is None else model.name,
        model_id=None if model is None else model.id,
        weights_sha256=None if model is None else model.weights_sha256,
        accuracy=outcome.accuracy,
        n_test=outcome.n_test,
        recipe=outcome.recipe,
        source=outcome.source,
        created_at=utc_now(),
    )


def _same(before: OutcomeRow, row: OutcomeRow) -> bool:
    """Whether it says nothing new; who does not know the weights or the features does not contradict who does."""
    if any(getattr(before, name) != getattr(row, name) for name in ("accuracy", "n_test", "source")):
        return False
    return all(getattr(row, name) in (None, getattr(before, name)) for name in ("weights_sha256", "extractor_id"))


def _view(row: OutcomeRow) -> OutcomeView:
    return OutcomeView(
        id=row.id,
        dataset=row.dataset,
        dataset_id=row.dataset_id,
        fingerprint=row.fingerprint,
        model=row.model,
        model_id=row.model_id,
        weights_sha256=row.weights_sha256,
        extractor_id=row.extractor_id,
        accuracy=row.accuracy,
        n_test=row.n_test,
        interval=None if row.n_test is None else list(wilson(row.accuracy, row.n_test)),
        recipe=row.recipe,
        source=row.source,
        version=row.version,
        created_at=row.created_at,
    )
