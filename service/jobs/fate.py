"""What becomes of a task that failed: tried again, and when, or given up. One pure function."""

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    UNAVAILABLE = "unavailable"  # database, store or disk do not answer; or files were collected meanwhile
    DOWNLOAD = "download"  # weights cannot be fetched now
    OUT_OF_MEMORY = "out of memory"  # of the device, with one image at a time
    NODE_LOST = "node lost"  # the machine that ran it is gone
    KILLED = "killed"  # its process ended without an answer
    OVERDUE = "overdue"  # it took longer than it may
    TOO_COSTLY = "too costly"  # it needs more memory than it is given
    BROKEN = "broken"  # anything else: the same again would end the same


_PASSING = frozenset(
    {Cause.UNAVAILABLE, Cause.DOWNLOAD, Cause.OUT_OF_MEMORY, Cause.NODE_LOST, Cause.KILLED, Cause.OVERDUE}
)
_NOBODYS_FAULT = frozenset({Cause.UNAVAILABLE, Cause.DOWNLOAD, Cause.NODE_LOST})
_WAITED_FOR = frozenset({Cause.UNAVAILABLE, Cause.NODE_LOST})
_LONGEST_WAIT_SECONDS = 300.0
PATIENCE = 3  # times as many attempts where a machine or a service was lost, for those are nobody's doing


@dataclass(frozen=True, slots=True)
class Fate:
    """`after_seconds` until the next attempt; None gives up. `blamed`: it counts against what was tried alone."""

    after_seconds: float | None
    blamed: bool = False


def decide(cause: Cause, /, *, attempts: int, max_attempts: int, alone: bool = True) -> Fate:
    """The fate of a task, or of one model in it, after `attempts` that all failed.

    One that died together with others (`alone` is false) is tried again at once, for then each is tried by itself. What
    may pass is tried again after 2, 4, 8 … seconds. What nobody that was tried is to blame for is not held against it.
    """
    allowed = max_attempts * (PATIENCE if cause in _WAITED_FOR else 1)
    if attempts >= allowed or cause not in _PASSING:
        return Fate(None, blamed=alone and cause not in _NOBODYS_FAULT)
    if not alone and cause in {Cause.KILLED, Cause.OVERDUE}:
        return Fate(0.0)
    return Fate(min(2.0**attempts, _LONGEST_WAIT_SECONDS))
