"""What comes again and again: files that no row needs are collected, and rows go that nobody asks for any more."""

import threading
from datetime import timedelta

import structlog

from service.core.clock import utc_now
from service.core.db import Database
from service.core.settings import RetentionSettings
from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from service.keys import repository as keys
from service.operation import repository
from service.rankings import repository as rankings
from service.rankings.service import remove

log = structlog.get_logger(__name__)
LOOK_SECONDS = 60.0
ROUND = "upkeep"
# Rankings count their tasks' progress for as long as they are shown; these are asked for by nobody once they ended.
FORGOTTEN = (TaskKind.COLLECT, TaskKind.IMPORT, TaskKind.RESOLVE, TaskKind.INGEST, TaskKind.FINETUNE)
AT_ONCE = 100  # rankings removed in one transaction


class Upkeep:
    """Of all workers, the one that first sees that a round is due does it."""

    def __init__(self, database: Database, settings: RetentionSettings, /) -> None:
        self._database = database
        self._settings = settings

    def run(self, stop: threading.Event, /) -> None:
        while not stop.is_set():
            try:
                self.round_if_due()
            except Exception:  # the edge of this thread; the next round is another chance
                log.exception("upkeep.failed")
            stop.wait(min(LOOK_SECONDS, self._settings.upkeep_seconds))

    def round_if_due(self) -> bool:
        with self._database.write() as session:
            if not repository.take_turn(session, ROUND, every_seconds=self._settings.upkeep_seconds):
                return False
            for project in keys.project_ids(session):
                jobs.enqueue_collection(session, project)
            since = utc_now() - timedelta(seconds=self._settings.tasks_seconds)
            repository.forget_tasks(session, FORGOTTEN, until=since)
            repository.forget_workers(session)
        removed = self._remove_rankings()
        log.info("upkeep.done", rankings_removed=removed)
        return True

    def _remove_rankings(self) -> int:
        if self._settings.rankings_seconds is None:
            return 0
        until, removed = utc_now() - timedelta(seconds=self._settings.rankings_seconds), 0
        while True:
            with self._database.write() as session:
                old = rankings.ended_before(session, until, limit=AT_ONCE)
                for project_id, ident in old:
                    remove(session, project_id, ident)
            removed += len(old)
            if len(old) < AT_ONCE:
                return removed
