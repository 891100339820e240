"""How often a key may ask: one token bucket a key, in the memory of this API process."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    granted: bool
    headers: Mapping[str, str]


class Rates:
    """A bucket holds a minute's requests and fills evenly. `per_minute` None: no limit."""

    def __init__(self, per_minute: int | None, /, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # key: tokens, and when they were counted
        self._lock = threading.Lock()

    def take(self, key: str, /) -> Allowance | None:
        """One request of the key's; None where there is no limit."""
        if self._per_minute is None:
            return None
        now, full, rate = self._clock(), float(self._per_minute), self._per_minute / MINUTE
        with self._lock:
            tokens, counted = self._buckets.get(key, (full, now))
            tokens = min(full, tokens + (now - counted) * rate)
            granted = tokens >= 1.0
            tokens -= 1.0 if granted else 0.0
            self._buckets[key] = (tokens, now)
        wait = 0.0 if tokens >= 1.0 else (1.0 - tokens) / rate
        headers = {
            "RateLimit-Policy": f'"key";q={self._per_minute};w={MINUTE:.0f}',
            "RateLimit": f'"key";r={math.floor(tokens)};t={math.ceil(wait)}',
        }
        return Allowance(granted, headers if granted else headers | {"Retry-After": str(math.ceil(wait))})
