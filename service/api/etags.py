"""ETags: what a client already has is not sent again, and what it has not seen is not changed.

A tag is a hash of the body as it would be sent. What a 304 saves is the way to the client; what saves
making the body is `remembered.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.deps import ProjectDep
from service.api.remembered import tag_of
from service.core.errors import NotFound, PreconditionFailed
from service.datasets.errors import NoReferenceSet
from service.keys.repository import lock_project


def _listed(header: str, /) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


class ETags:
    """Tags every JSON answer to a GET under /v1 that is sent in one piece. Streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        known = Headers(scope=scope).get("if-none-match")
        start: Message | None = None

        async def tagged(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json(message):
                start = message
                return
            if start is None:
                await send(message)
                return
            if not message.get("more_body", False):
                headers = MutableHeaders(scope=start)
                if "ETag" not in headers:
                    headers["ETag"] = tag_of(message.get("body", b""))
                if known is not None and ("*" in _listed(known) or headers["ETag"] in _listed(known)):
                    start["status"] = 304
                    del headers["Content-Length"], headers["Content-Type"]
                    message = {**message, "body": b""}
            await send(start)
            start = None
            await send(message)

        await self._app(scope, receive, tagged)


def _is_json(start: Message, /) -> bool:
    return start["status"] == 200 and Headers(scope=start).get("content-type") == "application/json"


@dataclass(frozen=True, slots=True)
class Match:
    _project: str
    _wanted: str | None

    def check(self, session: Session, show: Callable[[Session], BaseModel], /) -> None:
        """Inside the transaction that changes something: whether it is still what the client has seen.

        Raises:
            PreconditionFailed: It is not.
        """
        if self._wanted is None:
            return
        lock_project(session, self._project)  # PostgreSQL: nobody changes it between this look and the change
        try:
            found = tag_of(show(session).model_dump_json(by_alias=True).encode())
        except (NotFound, NoReferenceSet) as gone:
            raise PreconditionFailed(f"{gone} There is nothing for If-Match to match.") from gone
        if "*" not in _listed(self._wanted) and found not in _listed(self._wanted):
            raise PreconditionFailed(
                f"It is no longer what If-Match names; it is {found} now. GET it again, and decide anew."
            )


async def _match(
    project: ProjectDep,
    if_match: Annotated[
        str | None, Header(max_length=2000, description="the ETag that GET gave: nothing is done if it has changed")
    ] = None,
) -> Match:
    return Match(project, if_match)


MatchDep = Annotated[Match, Depends(_match)]
