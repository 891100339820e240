"""Who is told of what happens in one's own project; they need the admin scope."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from service.api.deps import AdminDep, AppDep
from service.api.once import Made, OnceDep
from service.core.pagination import MAX_LIMIT
from service.webhooks import service as webhooks
from service.webhooks.schemas import DeliveryPage, DeliveryView, NewWebhook, WebhookCreate, WebhookList, WebhookView

router = APIRouter(tags=["webhooks"])


@router.post("/webhooks", status_code=201, summary="Register a webhook; its secret is shown this once")
def create_webhook(app: AppDep, project: AdminDep, body: WebhookCreate, once: OnceDep) -> NewWebhook:
    """Events are sent by a worker as signed POSTs (Standard Webhooks), and again for a day until one succeeds."""

    def act(session: Session) -> Made[NewWebhook]:
        allowed = app.settings.webhooks.allow_private_addresses
        view = webhooks.create(session, project, body, allow_private=allowed)
        return Made(view, 201, f"/v1/webhooks/{view.id}")

    return once.do(body, act, secret=True)


@router.get("/webhooks", summary="List webhooks, newest first")
def list_webhooks(app: AppDep, project: AdminDep) -> WebhookList:
    with app.database.read() as session:
        return WebhookList(items=webhooks.list_webhooks(session, project))


@router.get("/webhooks/{webhook}", summary="Show a webhook")
def show_webhook(app: AppDep, project: AdminDep, webhook: str) -> WebhookView:
    with app.database.read() as session:
        return webhooks.show(session, project, webhook)


@router.delete("/webhooks/{webhook}", status_code=204, summary="Remove a webhook with its deliveries")
def remove_webhook(app: AppDep, project: AdminDep, webhook: str) -> None:
    with app.database.write() as session:
        webhooks.remove(session, project, webhook)


@router.post("/webhooks/{webhook}/ping", status_code=202, summary="Send a webhook something to try it with")
def ping_webhook(app: AppDep, project: AdminDep, webhook: str, once: OnceDep) -> DeliveryView:
    """A ping that is delivered enables a webhook again that was disabled."""

    def act(session: Session) -> Made[DeliveryView]:
        view = webhooks.ping(session, project, webhook)
        return Made(view, 202, f"/v1/webhooks/{webhook}/deliveries/{view.id}")

    return once.do("", act)


@router.get("/webhooks/{webhook}/deliveries", summary="What was sent to a webhook, and how it went; newest first")
def list_deliveries(
    app: AppDep,
    project: AdminDep,
    webhook: str,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> DeliveryPage:
    with app.database.read() as session:
        return webhooks.deliveries(session, project, webhook, limit=limit, cursor=cursor)


@router.get("/webhooks/{webhook}/deliveries/{delivery}", summary="Show a delivery")
def show_delivery(app: AppDep, project: AdminDep, webhook: str, delivery: str) -> DeliveryView:
    with app.database.read() as session:
        return webhooks.show_delivery(session, project, webhook, delivery)


@router.post("/webhooks/{webhook}/deliveries/{delivery}/redeliver", status_code=202, summary="Send a delivery again")
def redeliver(app: AppDep, project: AdminDep, webhook: str, delivery: str, once: OnceDep) -> DeliveryView:
    """Under its old `webhook-id`, as soon as a worker comes to it."""

    def act(session: Session) -> Made[DeliveryView]:
        view = webhooks.redeliver(session, project, webhook, delivery)
        return Made(view, 202, f"/v1/webhooks/{webhook}/deliveries/{view.id}")

    return once.do("", act)
