"""Bodies of megabytes over a real socket: however they come, what is stored is what was sent, or nothing."""

import hashlib
import io
import os
import socket
import time
import zipfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from service.api import connections
from service.api.ahead import Ahead
from service.core.settings import ServerSettings, UploadSettings
from tests.helpers.listening import listening
from tests.helpers.service import settings_for, wait_until

MIB = 1 << 20
MOST = 16 * MIB
ASK = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class Server:
    def __init__(self, port: int, folder: Path, bodies: list[Ahead]) -> None:
        self.port, self._folder, self.bodies = port, folder, bodies

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def files(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []

    def stored(self) -> str:
        """The digest of the one file, which is removed."""
        (path,) = self.files()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        path.unlink()
        return digest


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = settings_for(tmp_path_factory.mktemp("large") / "data", None)
    limits = {
        "server": ServerSettings(receive_seconds=1.0, min_bytes_per_second=MIB),
        "uploads": UploadSettings(max_upload_bytes=MOST),
    }
    settings = settings.model_copy(update=limits)
    bodies: list[Ahead] = []

    class Noted(Ahead):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)  # type: ignore[arg-type]
            bodies.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "Ahead", Noted)
        with listening(settings) as port:
            yield Server(port, settings.upload_root, bodies)


@pytest.fixture
def server(started: Server) -> Server:
    started.bodies.clear()
    return started


def archive(size: int) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
        for name in ("a/1.jpg", "b/2.jpg"):
            file.writestr(name, os.urandom(size // 2))
    return made.getvalue()


def head(*lines: str) -> bytes:
    first = ("POST /v1/datasets HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/zip")
    return "\r\n".join([*first, *lines, "", ""]).encode()


def answer_to(connection: socket.socket, sent: Iterable[bytes]) -> bytes:
    for piece in sent:
        connection.sendall(piece)
    said = b""
    while received := connection.recv(65536):
        said += received
    return said


def taken(server: Server) -> int:
    return sum(body.taken for body in server.bodies)


def test_a_body_at_once_is_taken_from_the_socket(server: Server) -> None:
    body = archive(12 * MIB)
    with server.connected() as connection:
        said = answer_to(connection, [head(f"Content-Length: {len(body)}", "Connection: close"), body])
    assert said.startswith(b"HTTP/1.1 202"), said
    assert server.stored() == hashlib.sha256(body).hexdigest()
    assert 0 < taken(server) < len(body)


def test_a_body_in_odd_pieces(server: Server) -> None:
    body = archive(6 * MIB)
    cuts = [0, 1, 2, 70_000, 70_001, 400_000, 2 * MIB, 5 * MIB, len(body) - 2, len(body) - 1, len(body)]

    def pieces() -> Iterator[bytes]:
        yield head(f"Content-Length: {len(body)}", "Connection: close") + body[:1]
        for begin, end in pairwise(cuts[1:]):
            time.sleep(0.05)
            yield body[begin:end]

    with server.connected() as connection:
        said = answer_to(connection, pieces())
    assert said.startswith(b"HTTP/1.1 202"), said
    assert server.stored() == hashlib.sha256(body).hexdigest()


def test_what_follows_a_body_is_another_request(server: Server) -> None:
    body = archive(4 * MIB)
    with server.connected() as connection:
        said = answer_to(connection, [head(f"Content-Length: {len(body)}") + body + ASK])
    first, second = said.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"202"), said
    assert second.startswith(b"200"), said
    assert second.endswith(b'{"status":"ok"}'), said
    assert server.stored() == hashlib.sha256(body).hexdigest()


def test_a_body_of_unknown_length(server: Server) -> None:
    body = archive(3 * MIB)
    pieces = [body[at : at + 500_000] for at in range(0, len(body), 500_000)]
    with server.connected() as connection:
        framed = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces]
        said = answer_to(connection, [head("Transfer-Encoding: chunked", "Connection: close"), *framed, b"0\r\n\r\n"])
    assert said.startswith(b"HTTP/1.1 202"), said
    assert server.stored() == hashlib.sha256(body).hexdigest()
    assert taken(server) == 0


def test_what_was_taken_counts_as_having_come(server: Server) -> None:
    """After a second, a MiB a second is asked for: a pause of 3 s behind 6 MiB is within that."""
    body = archive(7 * MIB)
    with server.connected() as connection:
        connection.sendall(head(f"Content-Length: {len(body)}", "Connection: close") + body[: 6 * MIB])
        time.sleep(3.0)
        said = answer_to(connection, [body[6 * MIB :]])
    assert said.startswith(b"HTTP/1.1 202"), said
    assert server.stored() == hashlib.sha256(body).hexdigest()


def test_a_body_that_stops_is_not_waited_for(server: Server) -> None:
    with server.connected() as connection:
        said = answer_to(connection, [head(f"Content-Length: {8 * MIB}") + os.urandom(2 * MIB)])
    assert said.startswith(b"HTTP/1.1 408"), said
    assert f"{2 * MIB:,} bytes came".encode() in said
    assert server.files() == []


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_body_that_is_cut_off_leaves_nothing(server: Server, reset: bool) -> None:
    connection = server.connected()
    connection.sendall(head(f"Content-Length: {9 * MIB}") + os.urandom(4 * MIB))
    wait_until(lambda: server.files() != [] and server.files()[0].stat().st_size > MIB, why="it is being stored")
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    wait_until(lambda: server.files() == [], why="its file is removed")


def test_a_body_that_grows_too_large_is_refused_at_once(server: Server) -> None:
    with server.connected() as connection:
        connection.sendall(head(f"Content-Length: {64 * MIB}"))
        said = b""
        try:
            for _ in range(64):
                connection.sendall(bytes(MIB))
        except (BrokenPipeError, ConnectionResetError):
            pass
        else:
            said = connection.recv(65536)
    assert said == b"" or said.startswith(b"HTTP/1.1 413"), said
    assert server.files() == []
    assert taken(server) < 2 * MOST
