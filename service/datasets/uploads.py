"""Receives an upload: straight to disk, hashed on the way, never whole in memory."""

import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool

from service.core.ids import new_id
from service.datasets.errors import EmptyArchive, TooLarge

BUFFER_BYTES = 1 << 20  # of each upload under way: sixty-four at once must fit in little memory


@dataclass(frozen=True, slots=True)
class Upload:
    path: Path
    sha256: str
    size: int


async def receive(chunks: AsyncIterator[bytes], root: Path, /, *, max_bytes: int) -> Upload:
    """The body as a file under `root`; the caller removes it.

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

            def store(chunks: list[bytes]) -> None:
                for data in chunks:
                    digest.update(data)
                    file.write(data)

            async for chunk in chunks:
                size += len(chunk)
                if size > max_bytes:
                    raise TooLarge(f"The upload is larger than {max_bytes:,} bytes")
                buffer.append(chunk)
                held += len(chunk)
                if held >= BUFFER_BYTES:
                    await run_in_threadpool(store, buffer)
                    buffer, held = [], 0
            if size == 0:
                raise EmptyArchive("The upload is empty")
            await run_in_threadpool(store, buffer)
            await run_in_threadpool(_flush, file)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Upload(path, digest.hexdigest(), size)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
