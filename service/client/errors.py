"""What goes wrong between a program and the service."""

from collections.abc import Mapping
from typing import Any

import httpx


class ApiProblem(Exception):
    """The service refused: `problem` is its RFC 9457 answer."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.status = int(problem.get("status", 0))
        self.type = str(problem.get("type", "about:blank"))
        super().__init__(f"{problem.get('title')}: {problem.get('detail')}")


class WaitTimeout(Exception):
    """The work was not done within the time given; it goes on in the service."""


class MissingExtra(ImportError):
    """A part of zooscout is needed that was not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}: pip install 'zooscout[{extra}]'")


def raise_if_error(answer: httpx.Response, /) -> None:
    """Raises ApiProblem. The body has been read."""
    if not answer.is_error:
        return
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        raise ApiProblem(answer.json())
    raise ApiProblem({"title": answer.reason_phrase, "status": answer.status_code, "detail": answer.text[:500]})
