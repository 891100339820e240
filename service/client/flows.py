"""What the client does, apart from how it waits: each is a generator that yields operations and is sent their results.

`Client` performs them blocking, `AsyncClient` on an event loop; nothing here is written twice.
"""

import time
import uuid
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from service.client.errors import WaitTimeout
from service.models.schemas import ModelFilter

T = TypeVar("T")
Progress = Callable[[int, int], None]
Wanted = str | Sequence[str] | ModelFilter
CHUNK_BYTES = 1 << 20
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.2, 2.0


@dataclass(frozen=True, slots=True)
class Upload:
    path: Path
    progress: Progress | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        return {"Content-Type": "application/octet-stream", "Content-Length": str(self.path.stat().st_size)}


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose JSON is the result."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    json: Any = None
    upload: Upload | None = None
    headers: Mapping[str, str] | None = None

    def sent_headers(self) -> dict[str, str]:
        """Made once a call, so that a request that is repeated says that it is the same."""
        once = {"Idempotency-Key": uuid.uuid4().hex} if self.method == "POST" else {}
        return {**once, **(self.upload.headers if self.upload else {}), **(self.headers or {})}


@dataclass(frozen=True, slots=True)
class Download:
    """A GET whose body becomes a file; the result is its size."""

    path: str
    params: Mapping[str, Any]
    target: Path


@dataclass(frozen=True, slots=True)
class Sleep:
    seconds: float


Flow = Generator[Call | Download | Sleep, Any, T]


@cache
def _reader(kind: Hashable, /) -> TypeAdapter[Any]:
    return TypeAdapter(cast(Any, kind))


def to_json(result: object, /) -> Any:
    """A result as the service sent it."""
    return _reader(cast(Hashable, type(result))).dump_python(result, mode="json")


def paged(limit: int, cursor: str | None, /, **more: Any) -> dict[str, Any]:
    """The query of a page, without what is not given."""
    given = {"limit": limit, "cursor": cursor, **more}
    return {name: value for name, value in given.items() if value is not None}


def ask(kind: type[T], method: str, path: str, /, **options: Any) -> Flow[T]:
    found = yield Call(method, path, **options)
    return cast(T, _reader(cast(Hashable, kind)).validate_python(found))


def tell(method: str, path: str, /, **options: Any) -> Flow[None]:
    yield Call(method, path, **options)


def wait(look: Callable[[], Flow[T]], ended: Callable[[T], bool], timeout_seconds: float | None, /) -> Flow[T]:
    """Looks less and less often.

    Raises:
        WaitTimeout: It has not ended within the time given.
    """
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    pause = FIRST_POLL_SECONDS
    while True:
        found = yield from look()
        if ended(found):
            return found
        if deadline is not None and time.monotonic() > deadline:
            raise WaitTimeout(f"Not done after {timeout_seconds:g} seconds; it goes on in the service.")
        yield Sleep(pause if deadline is None else min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(LONGEST_POLL_SECONDS, pause * 1.15)
