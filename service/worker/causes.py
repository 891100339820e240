"""What kind of failure an exception is. Loads nothing that the exception's own class has not loaded."""

from sqlalchemy.exc import IntegrityError

from service.core.db import is_passing
from service.core.errors import DatabaseUnavailable
from service.embeddings.errors import EmbeddingsMissing, StoreUnreachable
from service.jobs.fate import Cause
from zoo.errors import HubUnreachable


def cause_of(error: BaseException, /) -> Cause:
    if isinstance(error, HubUnreachable):
        return Cause.DOWNLOAD
    if isinstance(error, MemoryError):
        return Cause.TOO_COSTLY
    if type(error).__name__ == "OutOfMemoryError":  # torch's
        return Cause.OUT_OF_MEMORY
    if isinstance(error, (EmbeddingsMissing, StoreUnreachable, DatabaseUnavailable)) or is_passing(error):
        return Cause.UNAVAILABLE
    if isinstance(error, IntegrityError):  # two workers met: what collided is stored now
        return Cause.UNAVAILABLE
    return Cause.UNAVAILABLE if isinstance(error, OSError) else Cause.BROKEN
