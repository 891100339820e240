"""Answers to reads, kept in memory and given again as long as nothing was committed to the database meanwhile.

To make a page of models or a ranking's entries takes many times as long as to ask the database whether it has changed.
An answer is never out of date: before each one the database is asked.
"""

import asyncio
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool

from service.core.db import Database

MAX_BYTES = 32 << 20
Key = tuple[str, str, bytes]  # project, path, query


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    tag: str


def tag_of(body: bytes, /) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


class Answers:
    """The answers asked for last, as many as fit."""

    def __init__(self, max_bytes: int = MAX_BYTES, /) -> None:
        self._max_bytes = max_bytes
        self._held = 0
        self._answers: OrderedDict[Key, tuple[str, Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, stamp: str, /) -> Answer | None:
        with self._lock:
            made_at, answer = self._answers.get(key, ("", None))
            if made_at != stamp:
                return None
            self._answers.move_to_end(key)
            return answer

    def put(self, key: Key, stamp: str, answer: Answer, /) -> None:
        """`stamp` is the database's from before the answer was made, so that a commit in between counts."""
        size = len(answer.body)
        if size > self._max_bytes // 4:
            return
        with self._lock:
            _, before = self._answers.pop(key, ("", None))
            self._held += size - (len(before.body) if before else 0)
            self._answers[key] = stamp, answer
            while self._held > self._max_bytes:
                _, (_, oldest) = self._answers.popitem(last=False)
                self._held -= len(oldest.body)


class Stamps:
    """The database's stamp for all requests that wait for it, asked for once: never one from before a request came."""

    def __init__(self, database: Database, /) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self._next: asyncio.Task[str] | None = None

    async def get(self) -> str:
        if self._database.is_sqlite:
            return self._database.stamp()  # a few microseconds
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._ask())
            self._next.add_done_callback(_looked_at)
        return await asyncio.shield(self._next)  # a client that hangs up takes it from nobody else

    async def _ask(self) -> str:
        async with self._turn:
            self._next = None  # who comes from now on is too late for this one
            return await run_in_threadpool(self._database.stamp)


def _looked_at(task: asyncio.Task[str]) -> None:
    """Where all who waited are gone, asyncio would complain that nobody heard of an error."""
    if not task.cancelled():
        task.exception()
