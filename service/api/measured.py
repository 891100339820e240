"""Counts and times the requests of this process."""

import time

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
NO_ROUTE = "(none)"


class Measures:
    """One registry an application, so that two of them in a process do not count each other's requests."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = Counter(
            "zooscout_http_requests",
            "Requests that this process has answered; route is the template, status `none` where the client had gone.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.seconds = Histogram(
            "zooscout_http_request_seconds",
            "From a request's head to the end of its answer.",
            ("method", "route"),
            buckets=SECONDS,
            registry=self.registry,
        )


class Measured:
    """Pure ASGI, so that streams pass through it untouched."""

    def __init__(self, app: ASGIApp, measures: Measures) -> None:
        self._app, self._measures = app, measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = "none"

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        began = time.perf_counter()
        try:
            await self._app(scope, receive, noted)
        finally:
            # A client chooses method and path: neither may become a label as it is.
            method = scope["method"] if scope["method"] in METHODS else "other"
            route = _template(scope)
            self._measures.requests.labels(method, route, status).inc()
            self._measures.seconds.labels(method, route).observe(time.perf_counter() - began)


def _template(scope: Scope) -> str:
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return NO_ROUTE
    # A router's own path comes without the prefix under which it is included, and all of ours have this one.
    return f"/v1{path}" if scope["path"].startswith("/v1/") and not path.startswith("/v1/") else path
