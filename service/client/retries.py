"""When a request is sent again: one policy for both clients."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tenacity import RetryCallState, retry_if_exception_type, retry_if_result, wait_random_exponential

ATTEMPTS = 4
# The request may have been carried out although its answer was lost.
_LOST = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
_backoff = wait_random_exponential(multiplier=0.2, max=2.0)


def policy(method: str, /, *, patience_seconds: float) -> Mapping[str, Any]:
    """For tenacity: a broken connection four times in all; an answer that says when to come back, for as long as that
    is within `patience_seconds`. What is still refused then is the answer.
    """

    def is_busy(answer: httpx.Response) -> bool:
        return answer.status_code in {429, 503} and retry_after(answer) is not None

    def wait(state: RetryCallState) -> float:
        answer = _answer(state)
        seconds = None if answer is None else retry_after(answer)
        return _backoff(state) if seconds is None else seconds

    def stop(state: RetryCallState) -> bool:
        if _answer(state) is None:
            return state.attempt_number >= ATTEMPTS
        return (state.seconds_since_start or 0.0) + state.upcoming_sleep > patience_seconds

    # What was removed although the answer was lost would be answered with 404.
    lost = httpx.ConnectError if method == "DELETE" else _LOST
    return {
        "retry": retry_if_exception_type(lost) | retry_if_result(is_busy),
        "stop": stop,
        "wait": wait,
        "retry_error_callback": lambda state: state.outcome.result(),
    }


def retry_after(answer: httpx.Response, /) -> float | None:
    """Seconds, from either form of the header."""
    value = answer.headers.get("retry-after")
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _answer(state: RetryCallState) -> httpx.Response | None:
    outcome = state.outcome
    return None if outcome is None or outcome.failed else outcome.result()
