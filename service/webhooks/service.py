"""Registering webhooks, and writing down what they are to hear of."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.errors import Conflict
from service.core.pagination import MAX_LIMIT
from service.keys.repository import lock_project
from service.webhooks import repository
from service.webhooks.addresses import checked_url
from service.webhooks.errors import TooManyWebhooks
from service.webhooks.events import PING, Event, body_of
from service.webhooks.schemas import (
    AttemptView,
    DeliveryPage,
    DeliveryView,
    NewWebhook,
    WebhookCreate,
    WebhookView,
)
from service.webhooks.signing import new_secret
from service.webhooks.tables import DeliveryRow, WebhookRow

MAX_WEBHOOKS = 20


def emit(session: Session, project_id: str, event: Event, data: Mapping[str, Any], /) -> None:
    """Puts an event into the outbox, in the transaction that makes it happen: both are kept or neither is."""
    listening = repository.listening(session, project_id, event)
    if listening:
        body = body_of(event, data, utc_now())
        for webhook_id in listening:
            repository.enqueue(session, webhook_id, event=event, body=body)


def create(session: Session, project_id: str, request: WebhookCreate, /, *, allow_private: bool) -> NewWebhook:
    checked_url(request.url, allow_private=allow_private)
    lock_project(session, project_id)
    if repository.count(session, project_id) >= MAX_WEBHOOKS:
        raise TooManyWebhooks(f"The project has {MAX_WEBHOOKS} webhooks, which is all it may have: remove one first.")
    events = [str(event) for event in dict.fromkeys(request.events)]
    row = repository.add(session, project_id, url=request.url, events=events, secret=new_secret())
    return NewWebhook(**_view(row).model_dump(), secret=row.secret)


def list_webhooks(session: Session, project_id: str, /) -> list[WebhookView]:
    return [_view(row) for row in repository.webhooks_of(session, project_id)]


def show(session: Session, project_id: str, ident: str, /) -> WebhookView:
    return _view(repository.get(session, project_id, ident))


def remove(session: Session, project_id: str, ident: str, /) -> None:
    session.delete(repository.get(session, project_id, ident))


def ping(session: Session, project_id: str, ident: str, /) -> DeliveryView:
    """A delivery to try a webhook with; one that succeeds enables it again."""
    row = repository.get(session, project_id, ident)
    body = body_of(PING, {"webhook_id": row.id}, utc_now())
    return _delivery(repository.enqueue(session, row.id, event=PING, body=body))


def redeliver(session: Session, project_id: str, ident: str, delivery: str, /) -> DeliveryView:
    """Sends it again under its old id, as often as a new one would be tried.

    Raises:
        Conflict: It is being sent just now.
    """
    row = repository.get_delivery(session, repository.get(session, project_id, ident).id, delivery)
    if row.state == "sending":
        raise Conflict(f"Delivery {row.id} is being sent just now: look again when that is over.")
    repository.requeue(row)
    return _delivery(row)


def deliveries(
    session: Session, project_id: str, ident: str, /, *, limit: int = 50, cursor: str | None = None
) -> DeliveryPage:
    webhook = repository.get(session, project_id, ident)
    page = repository.list_deliveries(session, webhook.id, limit=min(limit, MAX_LIMIT), cursor=cursor)
    return DeliveryPage(items=[_delivery(row) for row in page.items], next_cursor=page.next_cursor)


def show_delivery(session: Session, project_id: str, ident: str, delivery: str, /) -> DeliveryView:
    return _delivery(repository.get_delivery(session, repository.get(session, project_id, ident).id, delivery))


def _view(row: WebhookRow) -> WebhookView:
    return WebhookView(
        id=row.id,
        url=row.url,
        events=row.events,
        enabled=row.disabled_at is None,
        disabled_reason=row.disabled_reason,
        failing_since=_moment(row.failing_since),
        created_at=row.created_at,
    )


def _delivery(row: DeliveryRow) -> DeliveryView:
    waits = row.state == "queued" and row.not_before > 0
    return DeliveryView(
        id=row.id,
        webhook_id=row.webhook_id,
        event=row.event,
        state=row.state,
        attempts=[AttemptView.model_validate(attempt) for attempt in row.attempts],
        next_attempt_at=_moment(row.not_before) if waits else None,
        body=row.body,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


def _moment(epoch: float | None) -> datetime | None:
    return None if epoch is None else datetime.fromtimestamp(epoch, UTC)
