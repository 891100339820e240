"""A task's work from its claim to how it ended, in whichever process an executor runs it."""

import uuid

import structlog

from service.compute.causes import cause_of
from service.core.db import Database
from service.core.errors import Cancelled, LeaseLost, NotFound, ServiceError
from service.core.settings import Settings
from service.core.tracing import span
from service.executors.protocol import End, Outcome, Perform, Watch
from service.jobs.model import Task
from service.worker.context import WorkerContext
from service.worker.handlers import handle
from zoo.errors import ZooError

log = structlog.get_logger(__name__)


def performer(context: WorkerContext, /) -> Perform:
    def perform(task: Task, watch: Watch) -> Outcome:
        try:
            with (
                structlog.contextvars.bound_contextvars(**task.names),
                span(f"perform {task.kind}", origin=task.origin),
            ):
                handle(context, task, watch)
        except LeaseLost:
            return Outcome(End.LOST)
        except Cancelled:
            return Outcome(End.STOPPED)
        except NotFound:
            return Outcome(End.GONE)
        except Exception as error:
            reference = uuid.uuid4().hex[:12]
            log.exception("task.failed", **task.names, reference=reference)
            said = f" (reference {reference} in the worker's log)"
            if isinstance(error, (ServiceError, ZooError)):  # their texts are for users
                said = f": {error}"
            reason = f"{type(error).__name__}{said}"
            return Outcome(End.FAILED, cause_of(error), reason)
        return Outcome(End.DONE)

    return perform


def start(settings: Settings) -> Perform:
    return performer(WorkerContext.from_settings(settings, Database.from_settings(settings)))


def start_computing(settings: Settings) -> Perform:
    import service.compute.group
    import service.worker.workplace  # noqa: F401 - loaded before the first task waits for it

    return start(settings)
