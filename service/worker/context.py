"""Everything a worker's handlers are handed: made once from the settings."""

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from service.blobs.store import BlobStore
from service.compute.reference import WarmMoments
from service.compute.warm import WarmFindings, WarmModels
from service.core.db import Database
from service.core.ids import new_id
from service.core.settings import Settings
from service.datasets.limits import Limits
from service.embeddings.opening import open_store
from service.embeddings.store import SegmentStore


def limits_from(settings: Settings, /) -> Limits:
    return Limits(**settings.uploads.model_dump())


@dataclass(frozen=True, slots=True)
class WorkerContext:
    settings: Settings
    database: Database
    blobs: BlobStore
    store: SegmentStore
    limits: Limits
    models: WarmModels
    warm: WarmMoments = field(default_factory=WarmMoments)
    findings: WarmFindings = field(default_factory=WarmFindings)
    worker_id: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{new_id('wk')[-8:]}")

    @classmethod
    def from_settings(cls, settings: Settings, database: Database, /) -> "WorkerContext":
        return cls(
            settings=settings,
            database=database,
            blobs=BlobStore(settings.blob_root),
            store=open_store(settings, database),
            limits=limits_from(settings),
            models=WarmModels(settings.worker.warm_model_bytes),
        )

    def manifest_path(self, project_id: str, dataset_id: str, /) -> Path:
        return self.settings.manifest_root / project_id / f"{dataset_id}.parquet"
