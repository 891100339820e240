"""A task's work from its claim to how it ended, in whichever process an executor runs it."""

import uuid

import structlog

from service.core.db import Database
from service.core.errors import Cancelled, LeaseLost, NotFound
from service.core.settings import Settings
from service.executors.protocol import End, Outcome, Perform, Watch
from service.jobs.model import Task
from service.worker.causes import cause_of
from service.worker.context import WorkerContext
from service.worker.handlers import handle

log = structlog.get_logger(__name__)


def performer(context: WorkerContext, /) -> Perform:
    def perform(task: Task, watch: Watch) -> Outcome:
        try:
            handle(context, task, watch)
        except LeaseLost:
            return Outcome(End.LOST)
        except Cancelled:
            return Outcome(End.STOPPED)
        except NotFound:
            return Outcome(End.GONE)
        except Exception as error:
            reference = uuid.uuid4().hex[:12]
            log.exception("task.failed", task=task.id, kind=task.kind, subject=task.subject_id, reference=reference)
            reason = f"{type(error).__name__} (reference {reference} in the worker's log)"
            return Outcome(End.FAILED, cause_of(error), reason)
        return Outcome(End.DONE)

    return perform


def start(settings: Settings) -> Perform:
    return performer(WorkerContext.from_settings(settings, Database.from_settings(settings)))


def start_computing(settings: Settings) -> Perform:
    import service.compute.group
    import service.worker.workplace  # noqa: F401 - loaded before the first task waits for it

    return start(settings)
