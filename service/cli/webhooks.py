"""`zooscout webhooks`: who is told of what happens."""

import time
from typing import Annotated

import typer
from rich.table import Table

from service.cli.connection import LOOK_SECONDS, connected
from service.cli.exits import Exit
from service.cli.output import err, fail, out, print_json
from service.client import Client
from service.client.results import Delivery
from service.webhooks.events import Event
from service.webhooks.sender import Sender

app = typer.Typer(help="Addresses that are told of what happens, by signed requests.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json")]
Webhook = Annotated[str, typer.Argument(help="its id, see `zooscout webhooks ls`")]
PING_SECONDS = 30.0


@app.command("add")
def add(
    url: Annotated[str, typer.Argument(help="https://…")],
    events: Annotated[list[Event] | None, typer.Option("--event", help="repeatable; every event if not given")] = None,
    as_json: AsJson = False,
) -> None:
    """Register a webhook and print its secret. It is shown this once; docs/webhooks.md says how to verify with it."""
    with connected() as at:
        made = at.client.add_webhook(url, events=[str(event) for event in events or []])
    if as_json:
        print_json(made)
        return
    err.print(f"Webhook {made.id} hears of {', '.join(made.events) or 'everything'}. Its secret is shown this once:")
    out.print(made.secret, soft_wrap=True)


@app.command("ls")
def list_webhooks(as_json: AsJson = False) -> None:
    """List webhooks, newest first."""
    with connected() as at:
        found = at.client.webhooks()
    if as_json:
        print_json(found)
        return
    table = Table()
    for column in ("id", "url", "events", "state"):
        table.add_column(column, overflow="fold")
    for hook in found.items:
        failing = f"failing since {hook.failing_since:%Y-%m-%d %H:%M}" if hook.failing_since else "enabled"
        state = failing if hook.enabled else f"disabled: {hook.disabled_reason}"
        table.add_row(hook.id, hook.url, ", ".join(hook.events) or "every event", state)
    out.print(table)


@app.command("ping")
def ping(webhook: Webhook, as_json: AsJson = False) -> None:
    """Send `webhook.ping` and say how it went. One that arrives enables a webhook that was disabled."""
    with connected() as at:
        asked = at.client.ping_webhook(webhook)
        if at.context is not None:
            sender = Sender(at.context.database, at.context.settings.webhooks)
            while not at.client.delivery(webhook, asked.id).attempts and sender.send_next():
                pass
            found = at.client.delivery(webhook, asked.id)
        else:
            found = _first_attempt(at.client, webhook, asked)
    if as_json:
        print_json(found)
    if found.state != "done":
        tried = found.attempts[-1] if found.attempts else None
        why = "no worker has sent it yet" if tried is None else tried.error or f"the answer was {tried.status}"
        fail(f"The ping was not delivered: {why}.", status=Exit.FAILED)
    if not as_json:
        out.print(f"Delivered in {found.attempts[-1].milliseconds} ms: {found.attempts[-1].status}.")


def _first_attempt(client: Client, webhook: str, asked: Delivery, /) -> Delivery:
    deadline = time.monotonic() + PING_SECONDS
    while not (found := client.delivery(webhook, asked.id)).attempts and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return found


@app.command("deliveries")
def deliveries(
    webhook: Webhook,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: AsJson = False,
) -> None:
    """What was sent to a webhook and how each attempt went, newest first."""
    with connected() as at:
        page = at.client.deliveries(webhook, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    table = Table()
    for column in ("id", "event", "state", "attempts", "last answer", "next"):
        table.add_column(column, overflow="fold")
    for item in page.items:
        last = item.attempts[-1] if item.attempts else None
        said = "" if last is None else str(last.status or last.error)
        due = f"{item.next_attempt_at:%Y-%m-%d %H:%M}" if item.next_attempt_at else ""
        table.add_row(item.id, item.event, item.state, str(len(item.attempts)), said, due)
    out.print(table)


@app.command("redeliver")
def redeliver(webhook: Webhook, delivery: Annotated[str, typer.Argument(help="its id")]) -> None:
    """Have a delivery sent again, under its old id."""
    with connected() as at:
        again = at.client.redeliver(webhook, delivery)
    out.print(f"{again.id} is queued; a worker sends it.")


@app.command("rm")
def remove(webhook: Webhook) -> None:
    """Remove a webhook with its deliveries."""
    with connected() as at:
        at.client.remove_webhook(webhook)
