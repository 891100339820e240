"""Whether a failed task is tried again. One pure function."""

from enum import Enum

from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from service.core.errors import ServiceError
from service.embeddings.errors import EmbeddingsMissing


class Verdict(Enum):
    RETRY = "retry"
    FAIL = "fail"


def judge(error: Exception, /, *, attempts: int, max_attempts: int) -> Verdict:
    """What may pass by itself (database away, disk or network hiccup, files collected meanwhile) is tried again."""
    if attempts >= max_attempts:
        return Verdict.FAIL
    if isinstance(error, (EmbeddingsMissing, OperationalError, ConnectionError, TimeoutError)):
        return Verdict.RETRY
    if isinstance(error, IntegrityError):  # two workers met: what collided is stored now
        return Verdict.RETRY
    if isinstance(error, DBAPIError):
        return Verdict.RETRY if error.connection_invalidated else Verdict.FAIL
    if isinstance(error, ServiceError):
        return Verdict.FAIL
    return Verdict.RETRY if isinstance(error, OSError) else Verdict.FAIL
