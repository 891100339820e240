"""Connections that say nothing, or too little, over a real socket."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from service.api.connections import HEAD_SECONDS, server_config
from service.core.settings import ServerSettings
from tests.helpers.listening import listening
from tests.helpers.service import settings_for

PATIENCE = 0.5
KEPT_ALIVE_SECONDS = 5.0  # uvicorn's own, after an answer
ASK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    settings = settings_for(tmp_path_factory.mktemp("connections") / "data", None)
    with listening(settings.model_copy(update={"server": ServerSettings(receive_seconds=PATIENCE)})) as port:
        yield port


def closed_after(connection: socket.socket) -> float:
    began = time.monotonic()
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


@pytest.mark.parametrize("said", [b"", b"GET /healthz HT", ASK[:-2], ASK + b"GET /hea"])
def test_half_a_head_is_not_waited_for(port: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(said)
        assert PATIENCE / 2 < closed_after(slow) < KEPT_ALIVE_SECONDS + 4


def test_a_head_that_comes_drop_by_drop_gains_no_time(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        began = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for letter in ASK[:-2] + b"X-Long: " + b"x" * 500:
                slow.sendall(bytes([letter]))
                time.sleep(0.02)
        assert time.monotonic() - began < PATIENCE + 4


def test_who_asks_in_time_is_answered_as_often_as_wanted(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as steady:
        for _ in range(4):
            steady.sendall(ASK[:20])
            time.sleep(PATIENCE / 3)
            steady.sendall(ASK[20:])
            said = b""
            while b'"ok"' not in said:
                said += steady.recv(4096)
            assert said.startswith(b"HTTP/1.1 200")
            time.sleep(PATIENCE / 3)


def test_an_answer_that_takes_longer_than_a_head_may_is_given(port: int) -> None:
    """A body that comes steadily, over a time in which no head would be waited for any more."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as steady:
        steady.sendall(b"POST /v1/rankings HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 60000\r\n\r\n")
        for _ in range(6):
            steady.sendall(b"x" * 10_000)
            time.sleep(PATIENCE / 4)
        assert steady.recv(4096).startswith(b"HTTP/1.1 422")


def test_a_hundred_silent_connections_do_not_keep_others_out(port: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(100)]
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
            one.sendall(ASK)
            assert one.recv(4096).startswith(b"HTTP/1.1 200")
    finally:
        for connection in silent:
            connection.close()


def test_the_usual_patience() -> None:
    assert server_config(None, ServerSettings()).http.head_seconds == HEAD_SECONDS  # type: ignore[union-attr]
