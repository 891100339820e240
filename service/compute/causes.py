"""What kind of failure an exception is. Loads nothing that the exception's own class has not loaded."""

from sqlalchemy.exc import IntegrityError

from service.core.db import is_passing
from service.core.errors import DatabaseUnavailable
from service.embeddings.errors import EmbeddingsMissing, StoreUnreachable
from service.jobs.fate import Cause
from zoo.errors import HubUnreachable


def is_fatal(error: BaseException, /) -> bool:
    """After one such error every later call to the GPU fails too, whatever the model: the process is lost."""
    return not _is_out_of_memory(error) and "CUDA error" in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    return type(error).__name__ == "OutOfMemoryError"  # torch's


def cause_of(error: BaseException, /) -> Cause:
    if is_fatal(error):
        return Cause.KILLED
    if isinstance(error, HubUnreachable):
        return Cause.DOWNLOAD
    if isinstance(error, MemoryError):
        return Cause.TOO_COSTLY
    if _is_out_of_memory(error):
        return Cause.OUT_OF_MEMORY
    if isinstance(error, (EmbeddingsMissing, StoreUnreachable, DatabaseUnavailable)) or is_passing(error):
        return Cause.UNAVAILABLE
    if isinstance(error, IntegrityError):  # two workers met: what collided is stored now
        return Cause.UNAVAILABLE
    return Cause.UNAVAILABLE if isinstance(error, OSError) else Cause.BROKEN
