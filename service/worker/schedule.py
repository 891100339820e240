"""Asks for a prescore of what is new, every so often, in every project."""

import threading
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from service.core.db import Database
from service.core.settings import PrescoreSettings
from service.keys.repository import lock_project
from service.prescores import repository
from service.prescores import service as prescores
from service.prescores.schemas import PrescoreCreate

log = structlog.get_logger(__name__)
LOOK_SECONDS = 60.0


class PrescoreSchedule:
    """Every worker has one; that of the first to look is the one that asks."""

    def __init__(self, database: Database, settings: PrescoreSettings, /) -> None:
        self._database = database
        self._settings = settings

    def run(self, stop: threading.Event, /) -> None:
        while self._settings.every_hours is not None and not stop.is_set():
            try:
                self.ask()
            except SQLAlchemyError:
                log.warning("prescores.database", exc_info=True)
            stop.wait(LOOK_SECONDS)

    def ask(self) -> list[str]:
        """Returns the prescores that were asked for."""
        if self._settings.every_hours is None:
            return []
        every = timedelta(hours=self._settings.every_hours)
        with self._database.read() as session:
            due = repository.projects_due(session, every)
        made = []
        for project_id in due:
            with self._database.write() as session:
                lock_project(session, project_id)
                if project_id in repository.projects_due(session, every):
                    request = PrescoreCreate(new=True, budget=self._settings.budget)
                    made.append(prescores.ask(session, project_id, request, scheduled=True).id)
        return made
