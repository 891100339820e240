"""The catalog in SQL."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Select, Text, and_, case, cast, delete, func, or_, select
from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import InvalidRequest, NotFound
from service.core.ids import new_id
from service.core.pagination import MADE_UP, Cursor, Page
from service.core.text import glob_to_like
from service.models.schemas import ModelFilter, ModelView, SortKey
from service.models.tables import ModelFailureRow, ModelRow, ModelTagRow
from zoo.catalog import MODALITIES, Modality, ModelCard

_SORTS = {
    "name": ModelRow.name,
    "params": ModelRow.params,
    "macs": ModelRow.macs,
    "input_size": ModelRow.input_size,
    "feature_dim": ModelRow.feature_dim,
    "imagenet_top1": ModelRow.imagenet_top1,
    "created_at": ModelRow.created_at,
}
_KEY_TYPES: dict[SortKey, type[str] | type[float]] = {"name": str, "created_at": str, "imagenet_top1": float}


def add(session: Session, project_id: str, card: ModelCard, /, *, state: str) -> ModelRow:
    row = ModelRow(id=new_id("mdl"), project_id=project_id, created_at=utc_now())
    _fill(row, card, state=state)
    session.add(row)
    session.flush()
    session.add_all(ModelTagRow(model_id=row.id, key=k, value=v) for k, v in card.tags.items())
    return row


def update_card(session: Session, row: ModelRow, card: ModelCard, /, *, state: str, error: str | None = None) -> None:
    _fill(row, card, state=state)
    row.error = error
    session.execute(delete(ModelTagRow).where(ModelTagRow.model_id == row.id))
    session.add_all(ModelTagRow(model_id=row.id, key=k, value=v) for k, v in card.tags.items())


def pin(session: Session, row: ModelRow, card: ModelCard, /, *, params: int) -> None:
    """Keeps what building the model has shown: the weights' sha256, parameters, width. Tags stay as they are."""
    _fill(row, replace(card, params=card.params or params, tags=tags_of(session, [row.id])[row.id]), state="ready")
    row.error = None


def find(session: Session, project_id: str, ident: str, /) -> ModelRow | None:
    """By id or by name."""
    query = select(ModelRow).where(ModelRow.project_id == project_id, or_(ModelRow.id == ident, ModelRow.name == ident))
    return session.scalars(query.order_by(case((ModelRow.id == ident, 0), else_=1)).limit(1)).first()


def get(session: Session, project_id: str, ident: str, /) -> ModelRow:
    row = find(session, project_id, ident)
    if row is None:
        raise NotFound("model", ident)
    return row


def by_ids(session: Session, project_id: str, ids: Sequence[str], /) -> dict[str, ModelRow]:
    rows: dict[str, ModelRow] = {}
    for start in range(0, len(ids), 500):
        # SQLite, asked for the project as well, reads all of the project's rows instead of those named.
        query = select(ModelRow).where(ModelRow.id.in_(ids[start : start + 500]))
        rows |= {row.id: row for row in session.scalars(query) if row.project_id == project_id}
    return rows


class Brief(NamedTuple):
    id: str
    name: str
    params: int | None
    feature_dim: int | None
    input_size: int
    licence: str | None
    pretrained_on: str | None
    imagenet_top1: float | None


def briefs(session: Session, project_id: str, ids: Sequence[str], /) -> dict[str, Brief]:
    """What a table of many models shows, without their cards."""
    columns = [ModelRow.__table__.c[name] for name in (*Brief._fields, "project_id")]
    session.flush()
    found: dict[str, Brief] = {}
    for start in range(0, len(ids), 500):
        for row in session.execute(select(*columns).where(ModelRow.id.in_(ids[start : start + 500]))):
            if row.project_id == project_id:
                found[row.id] = Brief(*row[:-1])
    return found


class Weighed(NamedTuple):
    """What tells how long a model takes; its card as it is written, for reading thousands takes long."""

    id: str
    name: str
    params: int | None
    macs: int | None
    weights_sha256: str | None
    card: str


def weighed(session: Session, project_id: str, ids: Sequence[str], /) -> list[Weighed]:
    """In the order of the ids."""
    session.flush()
    c = ModelRow.__table__.c
    columns = (c.id, c.name, c.params, c.macs, c.weights_sha256, cast(c.card, Text), c.project_id)
    found: dict[str, Weighed] = {}
    for start in range(0, len(ids), 500):
        for *kept, project in session.execute(select(*columns).where(c.id.in_(ids[start : start + 500]))):
            if project == project_id:
                found[kept[0]] = Weighed(*kept)
    return [found[ident] for ident in ids if ident in found]


def by_names(session: Session, project_id: str, names: Sequence[str], /) -> dict[str, ModelRow]:
    rows: dict[str, ModelRow] = {}
    for start in range(0, len(names), 500):
        query = select(ModelRow).where(ModelRow.project_id == project_id, ModelRow.name.in_(names[start : start + 500]))
        rows |= {row.name: row for row in session.scalars(query)}
    return rows


def matching_ids(session: Session, project_id: str, wanted: ModelFilter, /, *, limit: int) -> list[str]:
    query = _filtered(select(ModelRow.id), project_id, wanted).order_by(ModelRow.name).limit(limit)
    return list(session.scalars(query))


def count(session: Session, project_id: str, wanted: ModelFilter, /) -> int:
    found: int = session.execute(_filtered(select(func.count()).select_from(ModelRow), project_id, wanted)).scalar_one()
    return found


def list_page(
    session: Session,
    project_id: str,
    wanted: ModelFilter,
    /,
    *,
    sort: SortKey,
    descending: bool,
    limit: int,
    cursor: str | None,
) -> Page[ModelRow]:
    """One page. Models whose sort key is unknown come last, whichever way the rest is sorted."""
    column: Any = _SORTS[sort]
    order_name = f"{'-' if descending else ''}{sort}"
    # Cards are wide: they are fetched for the page alone, not sorted with all that match.
    query = _filtered(select(ModelRow.id), project_id, wanted)
    if column.nullable:
        query = query.order_by(case((column.is_(None), 1), else_=0))
    query = query.order_by(column.desc() if descending else column.asc(), ModelRow.id)
    if cursor is not None:
        after = Cursor.decode(cursor, sort=order_name, key_type=_KEY_TYPES.get(sort, int))
        query = query.where(_after(column, after, descending=descending))
    ids = list(session.scalars(query.limit(limit + 1)))
    found = by_ids(session, project_id, ids)
    rows = [found[ident] for ident in ids if ident in found]  # PostgreSQL: one may have been removed in between
    following = None
    if len(ids) > limit and rows:
        last = rows[:limit][-1]
        value = getattr(last, sort)
        key = value.isoformat() if isinstance(value, datetime) else value
        following = Cursor(key, last.id).encode(sort=order_name)
    return Page(rows[:limit], following)


def _after(column: Any, after: Cursor, *, descending: bool) -> Any:
    if after.key is None:
        return and_(column.is_(None), ModelRow.id > after.ident)
    key: object = _moment(after.key) if column.key == "created_at" else after.key
    beyond = column < key if descending else column > key
    return or_(beyond, and_(column == key, ModelRow.id > after.ident), column.is_(None))


def _moment(text: object) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise InvalidRequest(MADE_UP) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def tags_of(session: Session, ids: Sequence[str], /) -> dict[str, dict[str, str]]:
    tags: dict[str, dict[str, str]] = {ident: {} for ident in ids}
    for start in range(0, len(ids), 500):
        query = select(ModelTagRow).where(ModelTagRow.model_id.in_(ids[start : start + 500]))
        for row in session.scalars(query):
            tags[row.model_id][row.key] = row.value
    return tags


def view(row: ModelRow, tags: dict[str, str], /) -> ModelView:
    more = {"tags": tags, "modality": modality_of(row)}
    return ModelView.model_validate({c.key: getattr(row, c.key) for c in ModelRow.__table__.columns} | more)


def modality_of(row: ModelRow, /) -> Modality:
    return next(modality for library, modality in MODALITIES.items() if library == row.library)


def pinned_cards(session: Session, project_id: str, /) -> list[tuple[dict[str, Any], str]]:
    """Card and weights' sha256 of every model whose weights are known."""
    query = select(ModelRow.card, ModelRow.weights_sha256).where(
        ModelRow.project_id == project_id, ModelRow.weights_sha256.is_not(None)
    )
    return [(card, sha) for card, sha in session.execute(query) if sha is not None]


def add_failure(session: Session, model_id: str, fingerprint: str, /, *, reason: str) -> int:
    """Keeps that the model failed by itself on a dataset; returns on how many it has."""
    session.merge(ModelFailureRow(model_id=model_id, fingerprint=fingerprint, reason=reason, failed_at=utc_now()))
    session.flush()
    query = select(func.count()).where(ModelFailureRow.model_id == model_id)
    return session.execute(query).scalar_one()


def forget_failures(session: Session, model_id: str, /, *, fingerprint: str | None = None) -> None:
    """Those on one dataset, or all."""
    gone = delete(ModelFailureRow).where(ModelFailureRow.model_id == model_id)
    session.execute(gone if fingerprint is None else gone.where(ModelFailureRow.fingerprint == fingerprint))


def remove(session: Session, row: ModelRow, /) -> None:
    forget_failures(session, row.id)
    session.execute(delete(ModelTagRow).where(ModelTagRow.model_id == row.id))
    session.delete(row)


def _fill(row: ModelRow, card: ModelCard, *, state: str) -> None:
    row.name = card.name
    row.library = card.library
    row.architecture = card.architecture
    row.family = card.family
    row.params = card.params
    row.macs = card.macs
    row.feature_dim = card.feature_dim
    row.input_size = card.preprocess.input_size[1] if card.text is None else card.text.max_length or 0
    row.licence = card.licence
    row.pretrained_on = card.pretrained_on
    row.imagenet_top1 = card.imagenet_top1
    row.weights_sha256 = card.weights.sha256
    row.state = state
    row.card = card.to_json()
    words = (card.name, card.library, card.family, card.licence, card.pretrained_on, card.hub_id)
    row.search_text = " ".join([w for w in words if w] + [f"{k}={v}" for k, v in card.tags.items()]).lower()


def _filtered(query: Select[Any], project_id: str, wanted: ModelFilter) -> Select[Any]:
    query = query.where(ModelRow.project_id == project_id)
    if wanted.name is not None:
        query = query.where(ModelRow.name.ilike(glob_to_like(wanted.name), escape="\\"))
    for word in (wanted.text or "").lower().split():
        query = query.where(ModelRow.search_text.contains(word, autoescape=True))
    equal = {
        ModelRow.library: wanted.library,
        ModelRow.family: wanted.family,
        ModelRow.licence: wanted.licence,
        ModelRow.pretrained_on: wanted.pretrained_on,
        ModelRow.input_size: wanted.input_size,
        ModelRow.state: wanted.state,
    }
    for column, value in equal.items():
        if value is not None:
            query = query.where(column == value)
    if wanted.modality is not None:
        query = query.where(ModelRow.library.in_([name for name, of in MODALITIES.items() if of == wanted.modality]))
    if wanted.quarantined is not None:
        query = query.where(ModelRow.quarantined_at.is_not(None) == wanted.quarantined)
    if wanted.min_params is not None:
        query = query.where(ModelRow.params >= wanted.min_params)
    if wanted.max_params is not None:
        query = query.where(ModelRow.params <= wanted.max_params)
    if wanted.max_input_size is not None:
        query = query.where(ModelRow.input_size <= wanted.max_input_size)
    for key, value in wanted.tags.items():
        tagged = select(ModelTagRow.model_id).where(ModelTagRow.key == key, ModelTagRow.value == value)
        query = query.where(ModelRow.id.in_(tagged))
    return query
