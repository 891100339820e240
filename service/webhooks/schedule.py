"""When a delivery is tried again, and when a webhook is given up. Pure."""

FIRST_DELAY_SECONDS = 10.0
LONGEST_DELAY_SECONDS = 12 * 3600.0
MAX_TRIES = 10  # ten over 21 hours


def delay_after(tries: int, /, *, jitter: float) -> float | None:
    """Seconds until the next try; None after the last. `jitter` in 0..1 spreads those that failed together."""
    if tries >= MAX_TRIES:
        return None
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 3.0 ** (tries - 1)) * (0.9 + 0.2 * jitter)


def is_delivered(status: int | None, /) -> bool:
    return status is not None and 200 <= status < 300


def is_gone(status: int | None, /) -> bool:
    """The receiver says that it wants no more."""
    return status == 410
