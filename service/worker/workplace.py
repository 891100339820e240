"""Where and how this worker computes. Loads torch."""

import torch

from service.compute.device import batch_size, decode_threads, keep_freed_memory, visible_devices
from service.compute.group import Workplace
from service.worker.context import WorkerContext


def workplace(context: WorkerContext, project_id: str, /) -> Workplace:
    settings = context.settings
    device = torch.device(visible_devices(settings.worker.device)[0])
    if device.type == "cpu":
        keep_freed_memory()
    return Workplace(
        project_id=project_id,
        store=context.store,
        read_blob=lambda value: context.blobs.path(project_id, value.hex()).read_bytes(),
        weights_cache=settings.weights_cache,
        device=device,
        batch_size=batch_size(settings.worker.batch_size, device),
        threads=decode_threads(settings.worker.decode_threads),
        segment_rows=settings.store.segment_rows,
        warm=context.warm,
    )
