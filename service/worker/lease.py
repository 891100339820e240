"""Renews a task's lease from a thread while its handler computes, and carries the handler's progress along."""

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import structlog

from service.core.db import Database
from service.jobs import repository as jobs
from service.jobs.model import Task

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """While entered, the task stays this worker's; `lost` says when it is not any more (taken over or cancelled)."""

    def __init__(
        self,
        database: Database,
        task: Task,
        *,
        worker_id: str,
        device: str,
        lease_seconds: float,
        report_seconds: float = 0.5,
    ) -> None:
        self._database = database
        self._task = task
        self._worker = (worker_id, device)
        self._lease_seconds = lease_seconds
        self._report_seconds = report_seconds
        self._progress: Mapping[str, Any] | None = None
        self._stop = threading.Event()
        self._wake = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"lease-{task.id}", daemon=True)
        self.lost = threading.Event()

    def report(self, progress: Mapping[str, Any], /) -> None:
        with self._wake:
            self._progress = dict(progress)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def last_progress(self) -> Mapping[str, Any] | None:
        with self._wake:
            return self._progress

    def _run(self) -> None:
        # A cancelled task must stop within a second: the lease is looked at more often than it needs renewing.
        while not self._stop.wait(min(self._report_seconds, self._lease_seconds / 3)):
            try:
                with self._database.write() as session:
                    held = jobs.renew(
                        session, self._task, lease_seconds=self._lease_seconds, progress=self.last_progress()
                    )
                    jobs.worker_seen(session, self._worker[0], device=self._worker[1])
            except Exception:  # the database may be away for a moment; the lease outlasts that or is lost
                log.warning("lease.renewal_failed", **self._task.names, exc_info=True)
                continue
            if not held:
                self.lost.set()
                return
