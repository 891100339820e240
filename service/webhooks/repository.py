"""Webhooks and their deliveries in SQL."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session, aliased

from service.core.clock import db_epoch, utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.core.pagination import Cursor, Page
from service.webhooks.tables import DeliveryRow, WebhookRow

ORDER = "-created_at"


def add(session: Session, project_id: str, /, *, url: str, events: list[str], secret: str) -> WebhookRow:
    row = WebhookRow(
        id=new_id("wh"), project_id=project_id, url=url, events=events, secret=secret, created_at=utc_now()
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, project_id: str, ident: str, /) -> WebhookRow:
    row = session.scalar(select(WebhookRow).where(WebhookRow.project_id == project_id, WebhookRow.id == ident))
    if row is None:
        raise NotFound("webhook", ident)
    return row


def webhooks_of(session: Session, project_id: str, /) -> list[WebhookRow]:
    """Newest first."""
    query = select(WebhookRow).where(WebhookRow.project_id == project_id)
    return list(session.scalars(query.order_by(WebhookRow.created_at.desc(), WebhookRow.id.desc())))


def count(session: Session, project_id: str, /) -> int:
    query = select(func.count()).select_from(WebhookRow).where(WebhookRow.project_id == project_id)
    return session.execute(query).scalar_one()


def listening(session: Session, project_id: str, event: str, /) -> list[str]:
    query = select(WebhookRow.id, WebhookRow.events).where(
        WebhookRow.project_id == project_id, WebhookRow.disabled_at.is_(None)
    )
    return [row.id for row in session.execute(query) if not row.events or event in row.events]


def enqueue(session: Session, webhook_id: str, /, *, event: str, body: str) -> DeliveryRow:
    row = DeliveryRow(
        id=new_id("msg"),
        webhook_id=webhook_id,
        event=event,
        body=body,
        state="queued",
        tries=0,
        attempts=[],
        not_before=0.0,
        fence=0,
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return row


def get_delivery(session: Session, webhook_id: str, ident: str, /) -> DeliveryRow:
    row = session.scalar(select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id, DeliveryRow.id == ident))
    if row is None:
        raise NotFound("delivery", ident)
    return row


def list_deliveries(session: Session, webhook_id: str, /, *, limit: int, cursor: str | None) -> Page[DeliveryRow]:
    """Newest first."""
    query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id)
    if cursor is not None:
        query = query.where(DeliveryRow.id < Cursor.decode(cursor, sort=ORDER).ident)
    rows = list(session.scalars(query.order_by(DeliveryRow.id.desc()).limit(limit + 1)))
    following = Cursor(None, rows[limit - 1].id).encode(sort=ORDER) if len(rows) > limit else None
    return Page(rows[:limit], following)


def has_due(session: Session, /) -> bool:
    """Whether `claim` would find something: a read, so that an idle sender takes no write lock."""
    return session.execute(select(DeliveryRow.id).where(_due()).limit(1)).first() is not None


def claim(session: Session, /, *, lease_seconds: float) -> tuple[DeliveryRow, WebhookRow] | None:
    """Takes the delivery that has waited longest, of a webhook to which nothing is being sent just now."""
    candidate = select(DeliveryRow.id).where(_due()).order_by(DeliveryRow.not_before, DeliveryRow.id).limit(1)
    row = session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.id == candidate.with_for_update(skip_locked=True).scalar_subquery())
        .values(
            state="sending",
            lease_until=db_epoch() + lease_seconds,
            fence=DeliveryRow.fence + 1,
            tries=DeliveryRow.tries + 1,
        )
        .returning(DeliveryRow)
        .execution_options(synchronize_session=False)
    ).scalar_one_or_none()
    if row is None:
        return None
    webhook = session.get(WebhookRow, row.webhook_id)
    return None if webhook is None else (row, webhook)


def _due() -> ColumnElement[bool]:
    other = aliased(DeliveryRow)
    at_it = exists().where(
        other.webhook_id == DeliveryRow.webhook_id, other.state == "sending", other.lease_until >= db_epoch()
    )
    return and_(
        or_(
            and_(DeliveryRow.state == "queued", DeliveryRow.not_before <= db_epoch()),
            and_(DeliveryRow.state == "sending", DeliveryRow.lease_until < db_epoch()),
        ),
        ~at_it,
    )


def settle(session: Session, delivery: DeliveryRow, values: Mapping[str, Any], /) -> bool:
    """Writes how an attempt went; False where another sender has the delivery by now, or it is gone."""
    done = session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.id == delivery.id, DeliveryRow.fence == delivery.fence, DeliveryRow.state == "sending")
        .values({**values, "lease_until": None})
        .execution_options(synchronize_session=False)
    )
    return isinstance(done, CursorResult) and done.rowcount == 1


def requeue(row: DeliveryRow, /) -> None:
    row.state, row.tries, row.not_before, row.finished_at = "queued", 0, 0.0, None


def note_success(session: Session, webhook_id: str, /) -> None:
    values = {"failing_since": None, "disabled_at": None, "disabled_reason": None}
    session.execute(update(WebhookRow).where(WebhookRow.id == webhook_id).values(values))


def note_failure(session: Session, webhook_id: str, /) -> None:
    query = update(WebhookRow).where(WebhookRow.id == webhook_id, WebhookRow.failing_since.is_(None))
    session.execute(query.values(failing_since=db_epoch()).execution_options(synchronize_session=False))


def fails_for(session: Session, webhook_id: str, /) -> float:
    """Seconds since the first failed attempt after the last that succeeded."""
    query = select(db_epoch() - WebhookRow.failing_since).where(WebhookRow.id == webhook_id)
    return session.scalar(query) or 0.0


def disable(session: Session, webhook_id: str, reason: str, /) -> None:
    """Nothing more is sent to it: what waits is given up."""
    now = utc_now()
    session.execute(
        update(WebhookRow)
        .where(WebhookRow.id == webhook_id, WebhookRow.disabled_at.is_(None))
        .values(disabled_at=now, disabled_reason=reason)
    )
    session.execute(
        update(DeliveryRow)
        .where(DeliveryRow.webhook_id == webhook_id, DeliveryRow.state == "queued")
        .values(state="failed", finished_at=now)
        .execution_options(synchronize_session=False)
    )


def forget_ended(session: Session, /, *, older_than_seconds: float) -> None:
    session.execute(
        delete(DeliveryRow)
        .where(DeliveryRow.state.in_(("done", "failed")), DeliveryRow.not_before < db_epoch() - older_than_seconds)
        .execution_options(synchronize_session=False)
    )
