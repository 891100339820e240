"""Which devices this machine has, for a process that does not load torch itself."""

import ctypes
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from service.core.settings import Settings
from service.executors.local import LocalExecutor
from service.executors.protocol import Executor, Start


def local_executors(settings: Settings, start: Start, /) -> list[Executor]:
    """One for each device that the settings ask for.

    Raises:
        InvalidRequest: The device named is not there.
    """
    return [
        LocalExecutor(
            start,
            settings.model_copy(update={"worker": settings.worker.model_copy(update={"device": device})}),
            device=device,
        )
        for device in _devices(settings.worker.device)
    ]


def _devices(wanted: str) -> list[str]:
    if wanted == "cpu" or (wanted == "auto" and not _has_cuda_driver()):
        return ["cpu"]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_ask_torch, wanted).result()


def _has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _ask_torch(wanted: str) -> list[str]:
    from service.compute.device import visible_devices

    return visible_devices(wanted)
