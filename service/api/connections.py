"""Connections on which no whole request head comes: the server by itself would hold them for ever."""

import asyncio
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from service.api.ahead import Ahead
from service.core.settings import ServerSettings

HEAD_SECONDS = 10.0


class Impatient(H11Protocol):
    """Closes a connection whose next head is not whole in time; bodies have a time of their own (`bodies.py`)."""

    head_seconds = HEAD_SECONDS
    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def handle_events(self) -> None:
        super().handle_events()
        if self.scope is not None:  # of the request whose head has just come; its task begins after this
            self.scope["state"].setdefault("ahead", Ahead(self))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_due is None:
            self._head_due = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None


def server_config(app: Any, settings: ServerSettings, /) -> Config:
    """How uvicorn is to serve the application, whoever starts it."""
    seconds = min(HEAD_SECONDS, settings.receive_seconds)
    protocol = type("Protocol", (Impatient,), {"head_seconds": seconds})
    return Config(app, log_level="warning", timeout_graceful_shutdown=5, http=protocol)
