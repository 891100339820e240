"""Which device a worker computes on, and how many threads it takes."""

import os

import torch

from service.core.errors import InvalidRequest


def visible_devices(wanted: str, /) -> list[str]:
    """`auto` is every GPU there is, else the CPU; anything else is taken at its word.

    Raises:
        InvalidRequest: The device named is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "auto":
        return [f"cuda:{i}" for i in range(gpus)] or ["cpu"]
    if wanted == "cpu":
        return ["cpu"]
    index = wanted.removeprefix("cuda").removeprefix(":") or "0"
    if not wanted.startswith("cuda") or not index.isdigit():
        raise InvalidRequest(f"'{wanted}' is no device: use auto, cpu, cuda or cuda:N.")
    if int(index) >= gpus:
        raise InvalidRequest(f"There is no {wanted} here: torch sees {gpus} CUDA device(s).")
    return [f"cuda:{index}"]


def device_name(device: torch.device, /) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def decode_threads(setting: int, /) -> int:
    return setting or len(os.sched_getaffinity(0))
