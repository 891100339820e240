"""The API behind a real socket, in a thread of this process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from service.api.app import create_app
from service.api.connections import server_config
from service.core.settings import Settings
from tests.helpers.service import wait_until


@contextmanager
def listening(settings: Settings) -> Iterator[int]:
    """The port. No worker runs."""
    server = uvicorn.Server(server_config(create_app(settings), settings.server))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, why="the server starts")
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
