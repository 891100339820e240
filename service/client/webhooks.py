"""Webhooks and their deliveries, for both clients."""

from collections.abc import Sequence

from service.client import results as r
from service.client.flows import Flow, ask, paged, tell


def add_webhook(url: str, /, *, events: Sequence[str] = ()) -> Flow[r.Webhook]:
    """Its `secret` is in this answer, and in no other."""
    return ask(r.Webhook, "POST", "/v1/webhooks", json={"url": url, "events": list(events)})


def webhooks() -> Flow[r.Webhooks]:
    return ask(r.Webhooks, "GET", "/v1/webhooks")


def remove_webhook(ident: str, /) -> Flow[None]:
    return tell("DELETE", f"/v1/webhooks/{ident}")


def ping_webhook(ident: str, /) -> Flow[r.Delivery]:
    return ask(r.Delivery, "POST", f"/v1/webhooks/{ident}/ping")


def deliveries(ident: str, /, *, limit: int = 50, cursor: str | None = None) -> Flow[r.Deliveries]:
    return ask(r.Deliveries, "GET", f"/v1/webhooks/{ident}/deliveries", params=paged(limit, cursor))


def delivery(webhook: str, ident: str, /) -> Flow[r.Delivery]:
    return ask(r.Delivery, "GET", f"/v1/webhooks/{webhook}/deliveries/{ident}")


def redeliver(webhook: str, ident: str, /) -> Flow[r.Delivery]:
    return ask(r.Delivery, "POST", f"/v1/webhooks/{webhook}/deliveries/{ident}/redeliver")
