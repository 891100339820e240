"""Followers of rankings: however many there are, one poller a process asks the database for all of them."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import structlog
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError

from service.core.db import Database
from service.core.errors import NotFound
from service.rankings import service as rankings
from service.rankings.schemas import RankingStatus

log = structlog.get_logger(__name__)
Key = tuple[str, str]  # project, ranking
POLL_SECONDS = 0.5


class Followers:
    """Wakes whoever follows a ranking when what is known of it has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._following: Counter[Key] = Counter()
        self._known: dict[Key, RankingStatus | None] = {}
        self._changed = asyncio.Condition()
        self._poller: asyncio.Task[None] | None = None

    async def follow(self, project_id: str, ranking_id: str, /) -> AsyncIterator[RankingStatus]:
        """Every state that the ranking is seen in, each once, until it is removed or the follower goes."""
        key = (project_id, ranking_id)
        self._following[key] += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        said: RankingStatus | None = None
        try:
            while True:
                async with self._changed:
                    while key not in self._known or self._known[key] == said:
                        await self._changed.wait()
                    said = self._known[key]
                if said is None:
                    return
                yield said
        finally:
            self._following[key] -= 1
            if self._following[key] == 0:
                del self._following[key]
                self._known.pop(key, None)

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller

    async def _poll(self) -> None:
        while self._following:
            try:
                seen = await run_in_threadpool(self._look, list(self._following))
            except SQLAlchemyError:  # the database is away for a moment: followers wait with us
                log.warning("following.poll_failed", exc_info=True)
                seen = {}
            async with self._changed:
                self._known |= {key: state for key, state in seen.items() if key in self._following}
                self._changed.notify_all()
            await asyncio.sleep(POLL_SECONDS)

    def _look(self, keys: list[Key]) -> dict[Key, RankingStatus | None]:
        seen: dict[Key, RankingStatus | None] = {}
        with self._database.read() as session:
            for key in keys:
                try:
                    seen[key] = rankings.progress_of(session, *key)
                except NotFound:
                    seen[key] = None
        return seen
