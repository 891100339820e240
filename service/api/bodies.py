"""How much a request may bring, and how long it may take over it."""

import asyncio
import re
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.ahead import Ahead
from service.core.settings import ServerSettings, Settings
from service.datasets.uploads import Upload, receive

# Streamed to disk under caps of their own.
UPLOADS = re.compile(r"/v1/(datasets|datasets/[^/]+/versions|scores)/?")


class BodyLimits:
    """Answers 413 to a body that is too large and 408 to one that does not come, before more of it is read."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = UPLOADS.fullmatch(scope["path"]) is not None
        cap = None if upload else self._settings.max_body_bytes
        declared = Headers(scope=scope).get("content-length", "")
        ahead = _ahead(scope)
        size, complete, started = 0, False, time.monotonic()

        async def limited() -> Message:
            nonlocal size, complete
            if complete:
                return await receive()  # waits for the client to go
            if cap is not None and declared.isdecimal() and int(declared) > cap:
                raise _too_large(cap)
            came = size + (0 if ahead is None else ahead.taken)
            allowed = self._settings.receive_seconds + came / self._settings.min_bytes_per_second
            try:
                async with asyncio.timeout(max(0.0, started + allowed - time.monotonic())):  # wait_for makes a task
                    message = await receive()
            except TimeoutError:
                raise _too_slow(came, time.monotonic() - started) from None
            size += len(message.get("body", b""))
            complete = message["type"] != "http.request" or not message.get("more_body", False)
            if cap is not None and size > cap:
                raise _too_large(cap)
            return message

        await self._app(scope, limited, send)


async def received(request: Request, settings: Settings, /, *, max_bytes: int | None = None) -> Upload:
    """The body in a file, which the caller removes; of `max_bytes` at most, or of what an upload may have."""
    cap = settings.uploads.max_upload_bytes
    cap = cap if max_bytes is None else min(cap, max_bytes)
    ahead = _ahead(request.scope)
    if ahead is None:  # not our server: a test's client
        return await receive(request.stream(), settings.upload_root, max_bytes=cap)
    return await receive(request.stream(), settings.upload_root, max_bytes=cap, ahead=ahead.open)


def _ahead(scope: Scope, /) -> Ahead | None:
    ahead: Ahead | None = scope.get("state", {}).get("ahead")
    return ahead


def _too_large(cap: int) -> HTTPException:
    detail = f"The body is larger than {cap:,} bytes (ZOOSCOUT_SERVER__MAX_BODY_BYTES)."
    return HTTPException(413, detail, headers={"Connection": "close"})


def _too_slow(size: int, seconds: float) -> HTTPException:
    detail = f"Of the body, {size:,} bytes came in {seconds:.0f} seconds, and no more was waited for. Send it again."
    return HTTPException(408, detail, headers={"Connection": "close"})
