"""Whether this process can do its work now, asked every few seconds by whoever sends it requests."""

import threading
import time
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from service.core.db import Database
from service.core.migrate import current_revision, head_revision
from service.core.settings import Settings
from service.jobs import repository as jobs
from service.operation import stored
from service.operation.checks import State

STORE_SECONDS = 10.0  # a probe writes a few small files, or objects that cost money
HUNG_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Readiness:
    database: bool
    migrated: bool
    store: bool
    workers: int


class Prober:
    def __init__(self, settings: Settings, database: Database, /) -> None:
        self._settings, self._database = settings, database
        self._lock = threading.Lock()
        self._store_at, self._store = -STORE_SECONDS, False

    def look(self) -> Readiness:
        database = migrated = False
        workers = 0
        try:
            migrated = current_revision(self._database) == head_revision()
            database = True
            if migrated:
                with self._database.read() as session:
                    workers = jobs.workers_alive(session)
        except SQLAlchemyError:
            pass
        return Readiness(database, migrated, self._store_answers(), workers)

    def _store_answers(self) -> bool:
        # A store that hangs must not take one thread after another with it: meanwhile the last answer counts.
        if not self._lock.acquire(blocking=False):
            return self._store and time.monotonic() - self._store_at < HUNG_SECONDS
        try:
            if time.monotonic() - self._store_at >= STORE_SECONDS:
                self._store_at = time.monotonic()
                self._store = stored.store(self._settings).state is State.OK
            return self._store
        finally:
            self._lock.release()
