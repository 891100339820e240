"""Which device a worker computes on, and how many threads it takes."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

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


def cores(setting: int, /) -> int:
    return setting or len(os.sched_getaffinity(0))


@contextmanager
def intra_op_threads(count: int, /) -> Iterator[None]:
    """How many threads one operation takes meanwhile, in every thread that starts meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def native_bfloat16(device: torch.device, /) -> bool:
    """Whether the device multiplies bfloat16 itself; elsewhere it is right, and slow."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text(encoding="utf-8", errors="replace").split()) if info.exists() else set()
    return not flags.isdisjoint({"amx_bf16", "avx512_bf16", "bf16"})


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
