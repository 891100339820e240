"""Sends what the outbox holds: a few at once, one at a time to each webhook, under leases."""

import random
import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.core.clock import db_epoch, utc_now
from service.core.db import Database
from service.core.settings import WebhookSettings
from service.webhooks import repository
from service.webhooks.posting import Answer, Resolve, post, resolve
from service.webhooks.schedule import MAX_TRIES, delay_after, is_delivered, is_gone
from service.webhooks.signing import signed_headers
from service.webhooks.tables import DeliveryRow, WebhookRow

log = structlog.get_logger(__name__)
AT_ONCE = 4
POLL_SECONDS = 1.0
LEASE_SECONDS = 180.0  # looking up a name can take a minute, beside the time that an answer may take
TIDY_SECONDS = 3600.0
KEPT_ATTEMPTS = 20


class Sender:
    def __init__(
        self,
        database: Database,
        settings: WebhookSettings,
        /,
        *,
        lookup: Resolve = resolve,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._settings = settings
        self._lookup = lookup
        self._clock = clock

    def run(self, stop: threading.Event, /) -> None:
        """Until `stop` is set: a failure of the database is waited out.

        The threads end with the process, amid an attempt if need be: its lease runs out, and it is made again.
        """
        for number in range(AT_ONCE):
            threading.Thread(target=self._run, args=(stop,), name=f"webhooks-{number}", daemon=True).start()
        while not stop.is_set():
            self._guarded(self.forget_old)
            stop.wait(TIDY_SECONDS)

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            if not self._guarded(self.send_next):
                stop.wait(POLL_SECONDS)

    def _guarded(self, act: Callable[[], bool], /) -> bool:
        try:
            return act()
        except SQLAlchemyError:
            log.warning("webhooks.database", exc_info=True)
        except Exception:  # the edge of this thread: nothing that one delivery holds may end the sending of others
            log.exception("webhooks.failed")
        return False

    def forget_old(self) -> bool:
        with self._database.write() as session:
            repository.forget_ended(session, older_than_seconds=self._settings.keep_seconds)
        return True

    def send_next(self) -> bool:
        """One attempt; False when nothing is due."""
        with self._database.read() as session:
            if not repository.has_due(session):
                return False
        with self._database.write() as session:
            claimed = repository.claim(session, lease_seconds=LEASE_SECONDS)
        if claimed is None:
            return False
        delivery, webhook = claimed
        if delivery.tries > MAX_TRIES:  # whoever sent the last one died before it could say how it went
            answer = Answer(None, "The sender ended before there was an answer.", None, 0)
        else:
            answer = self._attempt(delivery, webhook)
        self._record(delivery, answer)
        return True

    def _attempt(self, delivery: DeliveryRow, webhook: WebhookRow) -> Answer:
        body = delivery.body.encode()
        headers = signed_headers(webhook.secret, ident=delivery.id, timestamp=int(self._clock()), body=body)
        return post(
            webhook.url,
            body,
            headers,
            timeout_seconds=self._settings.timeout_seconds,
            allow_private=self._settings.allow_private_addresses,
            lookup=self._lookup,
        )

    def _record(self, delivery: DeliveryRow, answer: Answer) -> None:
        attempt = {
            "at": utc_now().isoformat(),
            "milliseconds": answer.milliseconds,
            "status": answer.status,
            "error": answer.error,
            "answer": answer.excerpt,
        }
        values: dict[str, object] = {"attempts": [*delivery.attempts, attempt][-KEPT_ATTEMPTS:]}
        delivered = is_delivered(answer.status)
        delay = None if delivered else delay_after(delivery.tries, jitter=random.random())  # noqa: S311
        if delivered or delay is None:
            # `not_before` of what has ended is when it ended, by the database's clock.
            values |= {"state": "done" if delivered else "failed", "finished_at": utc_now(), "not_before": db_epoch()}
        else:
            values |= {"state": "queued", "not_before": db_epoch() + delay}
        entry = log.bind(delivery=delivery.id, webhook=delivery.webhook_id, status=answer.status, error=answer.error)
        with self._database.write() as session:
            if not repository.settle(session, delivery, values):
                entry.warning("webhooks.lease_lost")
                return
            if delivered:
                repository.note_success(session, delivery.webhook_id)
                entry.info("webhooks.delivered")
                return
            repository.note_failure(session, delivery.webhook_id)
            reason = self._why_disable(answer, repository.fails_for(session, delivery.webhook_id), last=delay is None)
            if reason is not None:
                repository.disable(session, delivery.webhook_id, reason)
        entry.warning("webhooks.not_delivered", tries=delivery.tries, disabled=reason)

    def _why_disable(self, answer: Answer, fails_for: float, /, *, last: bool) -> str | None:
        if is_gone(answer.status):
            return "The receiver answered 410 Gone."
        if last and fails_for >= self._settings.disable_after_seconds:
            days = fails_for / 86400
            return f"Every attempt has failed for {days:.1f} days; the last one: {answer.error or answer.status}."
        return None
