"""Receives an upload: straight to disk, hashed on the way, never whole in memory."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool

from service.core.ids import new_id
from service.datasets.errors import EmptyArchive, TooLarge

HELD_BYTES = (
    1 << 18
)  # of each upload under way, before a thread stores it: sixty-four at once must fit in little memory
BUFFER_BYTES = 1 << 20  # of each thread
TURN_BYTES = 4 << 20  # a thread takes for one upload what has arrived meanwhile, up to this: others wait for a thread

Take = Callable[[memoryview], int]


@dataclass(frozen=True, slots=True)
class Upload:
    path: Path
    sha256: str
    size: int


@contextmanager
def _nothing() -> Iterator[Take]:
    yield lambda _memory: 0


async def receive(
    chunks: AsyncIterator[bytes],
    root: Path,
    /,
    *,
    max_bytes: int,
    ahead: Callable[[], AbstractContextManager[Take]] = _nothing,
) -> Upload:
    """The body as a file under `root`; the caller removes it.

    `ahead` opens a way by which a thread fills memory with what comes next; the chunks go on behind that.

    Raises:
        TooLarge: More than `max_bytes` came; nothing is left on disk.
        EmptyArchive: Nothing came.
    """
    await run_in_threadpool(root.mkdir, parents=True, exist_ok=True)
    path = root / new_id("up")
    digest = hashlib.sha256()
    size = held = 0
    buffer: list[bytes] = []
    try:
        with path.open("xb") as file:

            def store(data: bytes | memoryview) -> None:
                digest.update(data)
                file.write(data)

            def store_turn(chunks: list[bytes], take: Take, room: int) -> int:
                for data in chunks:
                    store(data)
                memory, taken = memoryview(bytearray(BUFFER_BYTES)), 0
                while taken < TURN_BYTES and (came := take(memory)):
                    taken += came
                    if taken > room:
                        raise _too_large(max_bytes)
                    store(memory[:came])
                return taken

            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise _too_large(max_bytes)
                buffer.append(chunk)
                held += len(chunk)
                if held >= HELD_BYTES:
                    with ahead() as take:
                        size += await run_in_threadpool(store_turn, buffer, take, max_bytes - size)
                    buffer, held = [], 0
            if size == 0:
                raise EmptyArchive("The upload is empty")
            await run_in_threadpool(_finish, buffer, store, file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Upload(path, digest.hexdigest(), size)


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The upload is larger than {max_bytes:,} bytes")


def _finish(chunks: list[bytes], store: Callable[[bytes], None], file: BinaryIO) -> None:
    for data in chunks:
        store(data)
    file.flush()
    os.fsync(file.fileno())
