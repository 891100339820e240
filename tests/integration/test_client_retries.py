"""The client over a line that breaks: what was carried out is not carried out again, what was not is."""

import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.client import Client
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import process, settings_for, wait_until


class Line:
    """A line to a port, over which the next `lose` answers are read to their end and never passed on."""

    def __init__(self, port: int) -> None:
        self.lose = 0
        self.connections = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._carry, args=(caller,), daemon=True).start()

    def _carry(self, caller: socket.socket) -> None:
        with caller, socket.create_connection(("127.0.0.1", self._port)) as service:
            threading.Thread(target=self._pump, args=(caller, service), daemon=True).start()
            while answer := service.recv(65536):
                if self.lose:
                    self.lose -= 1
                    caller.shutdown(socket.SHUT_RDWR)
                    return
                caller.sendall(answer)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            return


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    log = tmp_path / "log"
    with process(settings_for(tmp_path / "data", None), log, "service.cli", "serve", "--port", "0", "--no-worker"):
        wait_until(lambda: "zooscout is at" in log.read_text(), why="serve starts")
        found = re.search(r"zooscout is at http://[^:]+:(\d+)", log.read_text())
        assert found is not None
        port = int(found[1])

        def listens() -> bool:
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", port)) == 0

        wait_until(listens, why="serve listens")
        line = Line(port)
        yield line
        line.close()


def test_an_upload_whose_answer_is_lost_is_one_dataset(line: Line, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(class_folders()))
    heard: list[tuple[int, int]] = []
    with Client(line.url, timeout_seconds=20) as client:
        line.lose = 1
        made = client.upload_dataset(archive, progress=lambda sent, size: heard.append((sent, size)))
        assert made.state == "checking"
        assert [d.id for d in client.datasets().items] == [made.id]
    size = archive.stat().st_size
    assert heard == [(size, size)] * 2  # it was sent from its beginning both times


def test_a_post_whose_answers_are_lost_is_carried_out_once(line: Line, tmp_path: Path) -> None:
    with Client(line.url, timeout_seconds=20) as client:
        line.lose = 3
        accepted = client.start_import("timm", name_glob="nothing*")
    with sqlite3.connect(tmp_path / "data" / "zooscout.sqlite") as database:
        assert database.execute("SELECT id FROM tasks").fetchall() == [(accepted.task_id,)]
    database.close()


def test_a_line_that_stays_broken_is_said_and_a_removal_is_not_repeated(line: Line) -> None:
    with Client(line.url, timeout_seconds=20) as client:
        line.lose = 100
        with pytest.raises(httpx.TransportError):
            client.models()
        assert (line.lose, line.connections) == (96, 4)
        with pytest.raises(httpx.TransportError):
            client.remove_model("nobody")
        assert (line.lose, line.connections) == (95, 5)
