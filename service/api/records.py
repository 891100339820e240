"""Every request has an id that its answer and the log share; every write leaves a line there; no bug shows."""

import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.deps import SAFE_METHODS, Caller
from service.api.problems import bug
from service.api.rates import Allowance

audit = structlog.get_logger("audit")
_TAKEN_OVER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Records:
    """Pure ASGI, so that streams pass through it untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        request_id = sent if _TAKEN_OVER.fullmatch(sent) else uuid.uuid4().hex[:12]
        state = scope.setdefault("state", {})
        status: int | None = None

        async def recorded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                allowance: Allowance | None = state.get("allowance")
                if allowance is not None:
                    headers.update(allowance.headers)
            await send(message)

        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, recorded)
            except ClientDisconnect:
                audit.info("request.client_gone", path=scope["path"])
            except Exception as error:
                answer = bug(Request(scope), error, reference=request_id)
                if status is None:
                    await answer(scope, receive, recorded)
                raise
            finally:
                if scope["method"] not in SAFE_METHODS:
                    caller: Caller | None = state.get("caller")
                    audit.info(
                        "audit",
                        key=caller.key_id if caller else None,
                        project=caller.project_id if caller else None,
                        method=scope["method"],
                        path=scope["path"],
                        status=status,  # none: the client went before it was answered
                        client=(scope.get("client") or (None,))[0],
                        milliseconds=round((time.monotonic() - started) * 1000),
                    )
