"""Where and how this worker computes. Loads torch."""

import torch

from service.compute.device import cores, keep_freed_memory, visible_devices
from service.compute.group import Workplace
from service.compute.precision import PrecisionPolicy
from service.compute.shards import ShardMoments
from service.compute.streams import Limits
from service.core.settings import Settings
from service.embeddings.precision import Decision, decided, settle
from service.worker.context import WorkerContext
from zoo.catalog import Precision


def device_of(settings: Settings, /) -> torch.device:
    return torch.device(visible_devices(settings.worker.device)[0])


def workplace(context: WorkerContext, project_id: str, /) -> Workplace:
    settings = context.settings
    device = device_of(settings)
    if device.type == "cpu":
        keep_freed_memory()

    def known(float32_id: str) -> Precision | None:
        with context.database.read() as session:
            return decided(session, project_id, float32_id)

    def settled(float32_id: str, found: Decision) -> Precision:
        with context.database.write() as session:
            return settle(session, project_id, float32_id, found)

    return Workplace(
        project_id=project_id,
        store=context.store,
        read_blob=lambda value: context.blobs.path(project_id, value.hex()).read_bytes(),
        weights_cache=settings.weights_cache,
        device=device,
        batch_size=settings.worker.batch_size,
        limits=Limits(
            threads=cores(settings.worker.decode_threads),
            pixel_bytes=settings.worker.pixel_bytes,
            feature_bytes=settings.worker.feature_bytes,
            segment_rows=settings.store.segment_rows,
        ),
        precision=PrecisionPolicy(wanted=settings.worker.precision, decided=known, settle=settled),
        models=context.models,
        warm=context.warm,
        findings=context.findings,
        moments=ShardMoments(settings.moments_root),
    )
