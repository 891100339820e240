"""Which device a worker computes on, and how many threads it takes."""

import ctypes
import os
import sys
from functools import cache

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


def batch_size(setting: int, device: torch.device, /) -> int:
    """Images a forward pass: on a CPU few enough that a layer's output stays in the cache and on the heap."""
    if setting:
        return setting
    return 64 if device.type == "cuda" else max(4, 2 * decode_threads(0))


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h


@cache
def keep_freed_memory() -> None:
    """Has glibc keep what a forward pass frees for the next one.

    By default every large activation is mapped, zeroed by the kernel and unmapped again, which can cost as much time as
    the arithmetic.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 512 << 20)
