"""What can be done with the catalog, one transaction each."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import InvalidRequest
from service.core.pagination import MAX_LIMIT
from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from service.keys.repository import lock_project
from service.models import repository
from service.models.errors import BadModelCard, ModelExists
from service.models.schemas import ModelCreate, ModelFilter, ModelPage, ModelView, SortKey
from service.models.tables import ModelRow
from zoo.catalog import MODALITIES, Modality, ModelCard
from zoo.errors import ZooError


def card_from_request(request: ModelCreate, /) -> ModelCard:
    """The card that a request describes; preprocessing that it leaves open is ImageNet's usual one.

    Raises:
        BadModelCard: The parts contradict each other.
    """
    preprocess: dict[str, object] = {
        key: value
        for key, value in (
            ("mean", request.mean),
            ("std", request.std),
            ("interpolation", request.interpolation),
            ("crop_pct", request.crop_pct),
        )
        if value is not None
    }
    if request.input_size is not None:
        preprocess["input_size"] = (3, request.input_size, request.input_size)
    asked = (("pooling", request.pooling), ("layer", request.layer), ("max_length", request.max_length))
    text: dict[str, object] | None = {key: value for key, value in asked if value is not None}
    if request.library == "open_clip_text":
        text = {"pooling": "own"} | (text or {})
    elif not text and MODALITIES[request.library] != "text":
        text = None
    try:
        return ModelCard.from_json(
            {
                "name": request.name,
                "library": request.library,
                "architecture": request.architecture,
                "arch_kwargs": request.arch_kwargs,
                "tag": request.name.removeprefix(f"{request.architecture}.") or "own",
                "weights": {"uri": request.weights, "sha256": request.sha256, "match": request.match},
                "preprocess": preprocess,
                "text": text,
                "licence": request.licence,
                "pretrained_on": request.pretrained_on,
                "imagenet_top1": request.imagenet_top1,
                "tags": request.tags,
            }
        )
    except (ZooError, TypeError, ValueError) as error:
        raise BadModelCard(str(error)) from error


def register(session: Session, project_id: str, request: ModelCreate, /) -> ModelView:
    """Adds a model and asks a worker to fetch and prove its weights."""
    row = add_card(session, project_id, card_from_request(request), state="unresolved")
    jobs.enqueue(session, project_id=project_id, kind=TaskKind.RESOLVE, subject_id=row.id, payload={})
    return repository.view(row, dict(request.tags))


def add_card(session: Session, project_id: str, card: ModelCard, /, *, state: str) -> ModelRow:
    lock_project(session, project_id)
    if repository.find(session, project_id, card.name) is not None:
        raise ModelExists(f"A model named '{card.name}' is already registered; remove it first or choose another name.")
    return repository.add(session, project_id, card, state=state)


def upsert_cards(session: Session, project_id: str, cards: Sequence[ModelCard], /) -> tuple[int, int]:
    """Adds new registry entries and refreshes those whose weights are not pinned yet. Returns (added, refreshed)."""
    lock_project(session, project_id)
    known = repository.by_names(session, project_id, [card.name for card in cards])
    added = refreshed = 0
    for card in cards:
        row = known.get(card.name)
        if row is None:
            repository.add(session, project_id, card, state="unresolved")
            added += 1
        elif row.weights_sha256 is None and ModelCard.from_json(row.card) != card:
            repository.update_card(session, row, card, state=row.state, error=row.error)
            refreshed += 1
    return added, refreshed


def list_models(
    session: Session,
    project_id: str,
    wanted: ModelFilter,
    /,
    *,
    sort: SortKey = "name",
    descending: bool = False,
    limit: int = 100,
    cursor: str | None = None,
) -> ModelPage:
    page = repository.list_page(
        session, project_id, wanted, sort=sort, descending=descending, limit=min(limit, MAX_LIMIT), cursor=cursor
    )
    tags = repository.tags_of(session, [row.id for row in page.items])
    return ModelPage(
        items=[repository.view(row, tags[row.id]) for row in page.items],
        total=repository.count(session, project_id, wanted),
        next_cursor=page.next_cursor,
    )


def show(session: Session, project_id: str, ident: str, /) -> ModelView:
    row = repository.get(session, project_id, ident)
    return repository.view(row, repository.tags_of(session, [row.id])[row.id])


QUARANTINE_DATASETS = 3


def blame(session: Session, row: ModelRow, fingerprint: str, reason: str, /) -> None:
    """The model failed by itself on a dataset; after as many different ones as that, rankings skip it."""
    failed_on = repository.add_failure(session, row.id, fingerprint, reason=reason)
    if failed_on >= QUARANTINE_DATASETS and row.quarantined_at is None:
        row.quarantined_at = utc_now()
        row.quarantine_reason = f"It failed by itself on {failed_on} different datasets, lastly: {reason}"


def why_skipped(row: ModelRow, /) -> str | None:
    """Why rankings skip the model; None where they do not."""
    if row.quarantined_at is None:
        return None
    return f"Skipped, for it is quarantined. {row.quarantine_reason} Try again: zooscout models release {row.name}"


def release(session: Session, project_id: str, ident: str, /) -> ModelView:
    """Ends a quarantine and forgets what led to it; a model that is in none stays as it is."""
    row = repository.get(session, project_id, ident)
    repository.forget_failures(session, row.id)
    row.quarantined_at = row.quarantine_reason = None
    session.flush()
    return show(session, project_id, row.id)


def remove(session: Session, project_id: str, ident: str, /) -> None:
    """Removes the row at once; embeddings that no other model shares go at the next collection."""
    row = repository.get(session, project_id, ident)
    jobs.delete_subject(session, row.id)
    repository.remove(session, row)


MAX_CANDIDATES = 20_000


def resolve_candidates(
    session: Session, project_id: str, wanted: Sequence[str] | ModelFilter, /, *, modality: Modality | None = None
) -> list[ModelRow]:
    """The models that a ranking's request names, each once; of a filter, those that read what the dataset holds.

    Raises:
        InvalidRequest: None matches, a name is unknown, or there are too many.
    """
    if isinstance(wanted, ModelFilter):
        if modality is not None and wanted.modality is None:
            wanted = wanted.model_copy(update={"modality": modality})
        ids = repository.matching_ids(session, project_id, wanted, limit=MAX_CANDIDATES + 1)
        if not ids:
            total = repository.count(session, project_id, ModelFilter())
            hint = "the catalog is empty: add models first" if total == 0 else f"the catalog holds {total} others"
            raise InvalidRequest(f"No model matches the filter; {hint}.")
        if len(ids) > MAX_CANDIDATES:
            raise InvalidRequest(f"The filter matches more than {MAX_CANDIDATES} models: narrow it.")
        rows = repository.by_ids(session, project_id, ids)
        return [rows[ident] for ident in ids]
    found: dict[str, ModelRow] = {}
    for ident in wanted:
        row = repository.find(session, project_id, ident)
        if row is None:
            raise InvalidRequest(f"There is no model '{ident}'.")
        found[row.id] = row
    others = [row.name for row in found.values() if modality not in (None, repository.modality_of(row))]
    if others:
        listed = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        raise InvalidRequest(f"The dataset holds {modality}s, which {listed} cannot read: leave them out.")
    if not found:
        raise InvalidRequest("Name at least one model, or give a filter.")
    return list(found.values())
