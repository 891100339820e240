"""The first answer to a request is the answer to each that repeats it."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.idempotency import repository
from service.idempotency.errors import KeyReused, ShownOnce
from service.idempotency.tables import AnswerRow
from service.jobs import repository as jobs


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    location: str
    body: str


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that bears a key; `request_sha256` is of everything in it that the answer depends on."""

    project_id: str
    key: str
    request_sha256: str
    keep_seconds: float


def earlier(session: Session, request: Repeatable, /) -> Answer | None:
    """What was answered before.

    Raises:
        KeyReused: The key belongs to another request.
        ShownOnce: The answer held a secret.
    """
    since = utc_now() - timedelta(seconds=request.keep_seconds)
    row = repository.find(session, request.project_id, request.key, since=since)
    return None if row is None else _answer(row, request)


def begin(session: Session, request: Repeatable, /) -> AnswerRow | Answer:
    """What was answered before, or the row that `keep` is to fill before the transaction ends.

    Raises:
        KeyReused: The key belongs to another request.
        ShownOnce: The answer held a secret.
    """
    now, age = utc_now(), timedelta(seconds=request.keep_seconds)
    row, mine = repository.claim(
        session, request.project_id, request.key, request_sha256=request.request_sha256, since=now - age
    )
    if not mine:
        return _answer(row, request)
    oldest = repository.oldest(session, request.project_id)
    if oldest is not None and oldest < now - 2 * age:  # one collection a day, not one a request
        jobs.enqueue_collection(session, request.project_id)
    return row


def keep(row: AnswerRow, answer: Answer, /, *, secret: bool) -> None:
    row.status, row.location, row.body = answer.status, answer.location, None if secret else answer.body


def forget(session: Session, project_id: str, /, *, older_than_seconds: float) -> None:
    repository.forget(session, project_id, until=utc_now() - timedelta(seconds=older_than_seconds))


def _answer(row: AnswerRow, request: Repeatable, /) -> Answer:
    if row.request_sha256 != request.request_sha256:
        raise KeyReused(
            "This Idempotency-Key came with another request before: repeat that one unchanged, or send a new key."
        )
    if row.body is None or row.location is None:
        raise ShownOnce(
            f"This was made before, as {row.location}, and what it showed is kept nowhere. If the answer was lost, "
            "revoke it (DELETE the same address) and make another with a new Idempotency-Key."
        )
    return Answer(row.status, row.location, row.body)
