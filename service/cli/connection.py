"""One way for both: the service at --url, or this process with the same API on a socket of its own.

A command talks to `Connection.client` and does not ask which of the two it is, except where work is to be done: without
a server this process does it, else it waits for the service to do it.
"""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import httpx
import typer

from service.cli.exits import Exit
from service.cli.output import fail
from service.client import Client

if TYPE_CHECKING:  # what works here is imported by whoever works here: a question to a service need not wait for it
    from service.worker.context import WorkerContext

T = TypeVar("T")
LOOK_SECONDS = 0.5
START_SECONDS = 30.0
_given: ContextVar[dict[str, str]] = ContextVar("given", default={})  # noqa: B039 - it is replaced, never changed


@dataclass(frozen=True, slots=True)
class Connection:
    client: Client
    context: "WorkerContext | None"  # this process does the work; none: the service at `url` does
    url: str | None

    def settle(
        self,
        subjects: Sequence[str],
        look: Callable[[], T],
        ended: Callable[[T], bool],
        watch: Callable[[T], None],
        /,
    ) -> T:
        """Looks until it has ended, doing the work meanwhile where nobody else does."""
        found = look()
        if self.context is None:
            while not ended(found):
                watch(found)
                time.sleep(LOOK_SECONDS)
                found = look()
            return found
        from service.cli.embedded import work_until

        seen = time.monotonic()

        def looked() -> T:
            nonlocal found, seen
            if time.monotonic() - seen >= LOOK_SECONDS:
                found, seen = look(), time.monotonic()
            return found

        if not ended(found):
            work_until(self.context, subjects, lambda: ended(look()), lambda: watch(looked()))
        return look()


def target() -> tuple[str | None, str | None]:
    given = _given.get()
    return given.get("url"), given.get("key")


@contextmanager
def connected() -> Iterator[Connection]:
    url, key = target()
    if url is not None:
        with Client(url, key=key) as client:
            yield Connection(client, None, url)
        return
    from service.cli.embedded import embedded

    with embedded() as context, _served(context) as client:
        yield Connection(client, context, None)


@contextmanager
def _served(context: "WorkerContext") -> Iterator[Client]:
    """The API of this very process, for it alone: a socket in a folder that only its user can open."""
    import uvicorn

    from service.api.app import create_app
    from service.core.settings import QuotaSettings, ServerSettings

    settings = context.settings.model_copy(
        update={"server": ServerSettings(), "quotas": QuotaSettings(), "log_level": "error"}
    )
    with tempfile.TemporaryDirectory(prefix="zs-") as folder:
        path = str(Path(folder) / "api")
        config = uvicorn.Config(create_app(settings), uds=path, log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, name="api", daemon=True)
        thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                fail("The API of this process did not start; `zooscout db check` may say why.")
            time.sleep(0.005)
        try:
            # A request may wait for the database as long as the API does; nobody else is in the way.
            with Client("http://localhost", timeout_seconds=600.0, transport=httpx.HTTPTransport(uds=path)) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


LOCAL = frozenset({"serve", "worker", "demo", "db", "doctor", "store", "keys"})
NEITHER = frozenset({"estimators"})  # the same everywhere


def add_options(command: Any, /, name: str = "") -> None:
    """Gives every command --url and --key; those that only make sense on the machine itself say so."""
    if not name:
        _given.set({})
    for child_name, child in command.commands.items():
        top = name or child_name
        if hasattr(child, "commands"):
            add_options(child, top)
        elif top in LOCAL:
            child.params += _params(_refusing)
        elif top not in NEITHER:
            child.params += _params(_taking)


def _params(declared: Callable[..., None], /) -> list[Any]:
    """The options that a function declares, as typer would give them to a command of its own."""
    template = typer.Typer(add_completion=False)
    template.command()(declared)
    return list(typer.main.get_command(template).params)


def _note_url(value: str | None) -> str | None:
    if value and not value.startswith(("http://", "https://")):
        raise typer.BadParameter(f"'{value}' does not begin with http:// or https://")
    return _note("url", value)


def _note_key(value: str | None) -> str | None:
    return _note("key", value)


def _note(name: str, value: str | None, /) -> str | None:
    if value:
        _given.set({**_given.get(), name: value})
    return value


def _not_there(context: typer.Context, value: str | None) -> None:
    if value:
        words = context.command_path.split()
        path = " ".join(words[-2:] if context.parent and context.parent.parent else words[-1:])
        fail(
            f"`zooscout {path}` works on the machine of the service, not through its API: run it there without --url.",
            status=Exit.USAGE,
        )


# Named apart from every argument that a command may have: click would hand `webhooks add URL` to --url.
def _taking(
    service_url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar="ZOOSCOUT_URL",
            help="of a service; without it this process does the work, in its own data directory",
            callback=_note_url,
            expose_value=False,
        ),
    ] = None,
    service_key: Annotated[
        str | None,
        typer.Option(
            "--key", envvar="ZOOSCOUT_KEY", help="API key of that service", callback=_note_key, expose_value=False
        ),
    ] = None,
) -> None: ...


def _refusing(
    service_url: Annotated[
        str | None, typer.Option("--url", hidden=True, callback=_not_there, expose_value=False)
    ] = None,
    service_key: Annotated[
        str | None, typer.Option("--key", hidden=True, callback=_not_there, expose_value=False)
    ] = None,
) -> None: ...
