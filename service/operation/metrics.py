"""What the database knows of the service, as metrics. Workers serve none: what they count lies there as well."""

import shutil
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from service.core.db import Database
from service.core.settings import Settings
from service.jobs import repository as jobs
from service.jobs.model import Counted, TaskKind, TaskState
from service.operation import repository

MODELS = 100  # of which a rate is shown: those that first embedded something last


class OfDatabase(Collector):
    """Collects when it is asked. Of models, and so of what users named, only those of `project_id`."""

    def __init__(self, settings: Settings, database: Database, project_id: str, /) -> None:
        self._settings, self._database, self._project = settings, database, project_id

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("zooscout_info", "Always 1; the version as a label.", labels=["version"])
        info.add_metric([version("zooscout")], 1.0)
        yield info
        free = shutil.disk_usage(self._settings.data_dir).free
        yield _gauge("disk_free_bytes", "Free on the data directory's disk.", free)
        try:
            with self._database.read() as session:
                found = list(self._of(session))
        except SQLAlchemyError:
            found = []
        yield _gauge("database_up", "1 where the database answered this scrape.", bool(found))
        yield from found

    def _of(self, session: Session) -> Iterator[Metric]:
        workers = GaugeMetricFamily(
            "zooscout_workers", f"Workers seen within {jobs.ALIVE_SECONDS:.0f} s.", labels=["device"]
        )
        alive = [worker.device for worker in jobs.workers(session)]
        for device in sorted({*alive, "cpu"}):
            workers.add_metric([device], alive.count(device))
        yield workers
        due = repository.waiting(session)
        yield _gauge("queue_tasks", "Tasks that are due and that no worker has.", due.tasks)
        yield _gauge("queue_oldest_seconds", "How long the oldest of them has been there.", due.oldest_seconds)
        counts = repository.tasks_by_kind_and_state(session)
        tasks = GaugeMetricFamily("zooscout_tasks", "Tasks by kind and state.", labels=["kind", "state"])
        for kind in TaskKind:
            for state in TaskState:
                tasks.add_metric([kind, state], counts.get((kind, state), 0))
        yield tasks
        counted = repository.counters(session)
        yield CounterMetricFamily(
            "zooscout_lease_losses",
            "Tasks taken over because their worker did not renew its lease.",
            value=counted.get((Counted.LEASE_LOSSES, ""), 0.0),
        )
        wanted = CounterMetricFamily(
            "zooscout_embeddings",
            "Embeddings (a model, an image) that tasks wanted; source `store`: a cache hit, `computed`: a miss.",
            labels=["source"],
        )
        for source in ("store", "computed"):
            wanted.add_metric([source], counted.get((Counted.EMBEDDINGS, source), 0.0))
        yield wanted
        stored = GaugeMetricFamily("zooscout_store_bytes", "Bytes of stored embeddings.", labels=["state"])
        sizes = {"active": 0, "superseded": 0, "damaged": 0} | repository.segment_bytes(session)
        for of, size in sizes.items():
            stored.add_metric([of], size)
        yield stored
        uploaded = repository.upload_bytes(session)
        yield _gauge("upload_bytes", "Bytes that the uploads had of which the datasets' images are.", uploaded)
        rates = GaugeMetricFamily(
            "zooscout_images_per_second",
            "Of each model's forward pass, as last measured; the newest hundred of the key's project.",
            labels=["model", "device", "precision"],
        )
        for rate in repository.rates(session, self._project, limit=MODELS):
            rates.add_metric([rate.model, rate.device, rate.precision], rate.images_per_second)
        yield rates


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"zooscout_{name}", help_, value=float(value))
