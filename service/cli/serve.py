"""`zooscout serve`, `zooscout worker`, `zooscout demo`."""

import gc
import os
import signal
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from service.cli.beside import WorkerProcess
from service.cli.output import err, fail
from service.core.settings import Settings

WITHOUT_TORCH = "torch is not installed. Install what a worker needs: pip install 'zooscout[worker]'."


def serve(
    host: Annotated[str | None, typer.Option(help="address to bind to; ZOOSCOUT_SERVER__HOST")] = None,
    port: Annotated[int | None, typer.Option(help="0 takes a free one; ZOOSCOUT_SERVER__PORT")] = None,
    worker: Annotated[bool, typer.Option("--worker/--no-worker", help="run a worker beside the API")] = True,
) -> None:
    """Run the API, the web pages and one worker process.

    Where torch is not installed no worker is started: then one elsewhere computes, on the same database and files.

    On 127.0.0.1 no key is asked. Bound to any other address, every request needs an API key, and the service does not
    start before there is one: see `zooscout keys create`.
    """
    gc.disable()  # what is imported stays: looking through it for garbage is a tenth of the start
    import uvicorn

    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = Settings()
    settings = settings.model_copy(update={"server": settings.server.model_copy(update=given)})
    chosen = settings.server
    _prepare(settings)
    listener = _listen(chosen.host, chosen.port)
    bound = listener.getsockname()[1]
    from service.api.app import create_app
    from service.api.connections import server_config

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                err.print(
                    f"zooscout is at http://{chosen.host}:{bound}  (data in {settings.data_dir}; Ctrl-C stops it)"
                )

    server = Server(server_config(create_app(settings), chosen))
    gc.freeze()
    gc.enable()
    # Once uvicorn has stopped it sends itself the signal again: by default SIGTERM would end this process before
    # the worker is stopped.
    signal.signal(signal.SIGTERM, _exit_on_terminate)
    beside = WorkerProcess() if worker and _can_compute(settings) else None
    if worker and beside is None:
        said = f"No worker is started here: {WITHOUT_TORCH} Requests are answered; what has to be computed waits."
        err.print(said, markup=False)
    try:
        server.run(sockets=[listener])
    finally:
        if beside is not None:
            beside.stop()


def _can_compute(settings: Settings) -> bool:
    """Without importing torch. On a Ray cluster its nodes compute, and the worker itself needs none."""
    try:
        return settings.executor.kind != "local" or find_spec("torch") is not None
    except ModuleNotFoundError:
        return False


def _exit_on_terminate(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _prepare(settings: Settings) -> None:
    from service.core.db import Database
    from service.core.migrate import ensure_schema
    from service.keys import repository as keys

    database = Database.from_settings(settings)
    try:
        ensure_schema(database)
        if settings.server.needs_key:
            with database.read() as session:
                usable = keys.count_usable(session)
            if not usable:
                fail(
                    f"Bound to {settings.server.host} the service needs API keys, and there is none that is valid. "
                    "Make one: zooscout keys create NAME --scope admin"
                )
    finally:
        database.dispose()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is said: else each waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        fail(f"Cannot listen on {host}:{port}: {error.strerror}. Choose another with --port (0 takes a free one).")
    return listener


def worker(
    device: Annotated[str | None, typer.Option(help="auto (every GPU, else the CPU), cpu, cuda or cuda:N")] = None,
) -> None:
    """Run a worker on this machine against the same database and data directory as the service."""
    from service.worker.main import main

    settings = Settings()
    if device is not None:
        settings = settings.model_copy(update={"worker": settings.worker.model_copy(update={"device": device})})
    if not _can_compute(settings):
        fail(f"No worker can run here: {WITHOUT_TORCH}")
    main(settings)


def demo(
    keep: Annotated[Path | None, typer.Option("--data-dir", help="where the demo keeps its data")] = None,
) -> None:
    """Rank four real ImageNet models on 600 real chest X-rays, over HTTP, as any client would."""
    from service.cli.demo import run_demo

    def on_terminate(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_terminate)
    run_demo(keep or Path(os.environ.get("ZOOSCOUT_DEMO_DIR", ".cache/demo")))
