"""`zooscout worker`: one process a device, each claiming tasks of its own."""

import multiprocessing
import signal
import threading
from types import FrameType

import structlog

from service.core.db import Database
from service.core.logging import configure_logging
from service.core.migrate import ensure_schema
from service.core.settings import Settings
from service.schema import all_tables
from service.webhooks.sender import Sender
from service.worker.context import WorkerContext
from service.worker.loop import run

log = structlog.get_logger(__name__)


def main(settings: Settings, /) -> None:
    """Blocks until SIGINT or SIGTERM; the task at hand is put back and another worker goes on from what it stored."""
    from service.compute.device import visible_devices

    devices = visible_devices(settings.worker.device)
    if len(devices) == 1:
        work_on(settings, devices[0])
        return
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=work_on, args=(settings, device), name=device) for device in devices]
    for child in children:
        child.start()
    stop = _stop_on_signals()
    while not stop.wait(0.5) and any(child.is_alive() for child in children):
        pass
    for child in children:
        child.terminate()
    for child in children:
        child.join()


def work_on(settings: Settings, device: str, /) -> None:
    configure_logging(level=settings.log_level, fmt=settings.log_format)
    all_tables()
    settings = settings.model_copy(update={"worker": settings.worker.model_copy(update={"device": device})})
    database = Database.from_settings(settings)
    ensure_schema(database)
    context = WorkerContext.from_settings(settings, database)
    stop = _stop_on_signals()
    log.info("worker.ready", worker=context.worker_id, device=device, data_dir=str(settings.data_dir))
    # Beside the tasks, not one of them: who waits for an event must not wait for an hour of embedding.
    threading.Thread(target=Sender(database, settings.webhooks).run, args=(stop,), name="webhooks", daemon=True).start()
    try:
        run(context, stop)
    finally:
        database.dispose()
        log.info("worker.stopped", worker=context.worker_id)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    return stop
