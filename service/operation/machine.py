"""This machine: Python, torch, CUDA, FAISS, the disk, the way to the hub."""

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import httpx
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from service.core.settings import Settings
from service.operation.checks import Check, ok, problem, warning

PROBE_SECONDS = 120.0  # importing torch from a cold disk
HUB_SECONDS = 5.0
MIN_FREE_FILES = 1000
OLDEST_PYTHON = (3, 11)
WORKER = "pip install 'zooscout[worker]'"

# In a process of its own: a broken build ends the process that imports it, or prints what nobody should read.
_ASK_TORCH = """
import json, torch
cuda = torch.cuda.is_available()
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if cuda else []
assert float((torch.ones(8, 8) @ torch.ones(8, 8)).sum()) == 512.0
print(json.dumps({"version": torch.__version__, "built_for": torch.version.cuda, "devices": names}))
"""
_ASK_FAISS = """
import json, faiss, numpy
rows = numpy.eye(4, dtype="float32")
index = faiss.IndexFlatL2(4)
index.add(rows)
assert index.search(rows, 1)[1].ravel().tolist() == [0, 1, 2, 3]
print(json.dumps({"version": faiss.__version__}))
"""


def python(_settings: Settings, /) -> Check:
    said = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return problem("python", said, do="Use Python 3.11 or newer.")
    return ok("python", said)


def torch(settings: Settings, /) -> Check:
    """The build itself, against the device that is asked for and the packages that were built against it."""
    if not _installed("torch"):
        return warning("torch", "not installed: this machine can serve, and no worker runs here", do=f"{WORKER}.")
    asked = _asked(_ASK_TORCH)
    if "error" in asked:
        return problem("torch", f"it cannot be used: {asked['error']}", do=f"Install it again: {WORKER}.")
    built, driver = asked["built_for"], has_cuda_driver()
    kind = f"built for CUDA {built}" if built else "built without CUDA"
    said = f"{asked['version']}, {kind}"
    unfit = _unfit(asked["version"])
    if unfit is not None:
        return problem("torch", f"{said}; {unfit}", do=f"Install builds that fit together: {WORKER}.")
    with_cuda = f"Install torch's CUDA build ({WORKER} takes PyPI's)"
    if settings.worker.device.startswith("cuda") and _index(settings.worker.device) >= len(asked["devices"]):
        why = f"it sees {len(asked['devices'])} CUDA devices" if built else "it can use none"
        return problem(
            "torch",
            f"{said}; ZOOSCOUT_WORKER__DEVICE is {settings.worker.device}, and {why}",
            do=f"{with_cuda} and a driver that it can use, or set ZOOSCOUT_WORKER__DEVICE=auto.",
        )
    if driver and not built and settings.worker.device != "cpu":
        return problem(
            "torch",
            f"{said}, although this machine has an NVIDIA driver",
            do=f"{with_cuda}, or set ZOOSCOUT_WORKER__DEVICE=cpu to compute without the GPU.",
        )
    return ok("torch", said)


def cuda(settings: Settings, /) -> Check:
    if not has_cuda_driver():
        return ok("cuda", "no NVIDIA driver: the CPU computes")
    if not _installed("torch"):
        return ok("cuda", "an NVIDIA driver is there; without torch nothing computes here")
    asked = _asked(_ASK_TORCH)
    devices = asked.get("devices") or []
    if devices:
        return ok("cuda", ", ".join(devices))
    if settings.worker.device == "cpu":
        return ok("cuda", "not used: ZOOSCOUT_WORKER__DEVICE is cpu")
    return problem(
        "cuda",
        "an NVIDIA driver is there, and torch sees no device",
        do="Compare the driver (nvidia-smi) with the CUDA version that torch is built for, and look at "
        "CUDA_VISIBLE_DEVICES.",
    )


def faiss(_settings: Settings, /) -> Check:
    asked = _asked(_ASK_FAISS)
    if "error" in asked:
        return problem("faiss", f"it cannot be used: {asked['error']}", do="pip install --force-reinstall faiss-cpu.")
    return ok("faiss", f"{asked['version']}, finds what it holds")


def disk(settings: Settings, /) -> Check:
    folder = nearest(settings.data_dir)
    room = shutil.disk_usage(folder)
    files = os.statvfs(folder)
    said = f"{_size(room.free)} free of {_size(room.total)} at {settings.data_dir}"
    if room.free < settings.health.min_free_bytes:
        return problem(
            "disk",
            f"{said}; less than {_size(settings.health.min_free_bytes)} (ZOOSCOUT_HEALTH__MIN_FREE_BYTES)",
            do="Run `zooscout store gc`, remove datasets, or give it a larger disk.",
        )
    if files.f_files and files.f_favail < MIN_FREE_FILES:
        return problem(
            "disk",
            f"{said}, but only {files.f_favail} more files fit",
            do="Remove files, or make a file system with more inodes.",
        )
    return ok("disk", said)


def hub(_settings: Settings, /) -> Check:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return ok("hub", "not asked: HF_HUB_OFFLINE is set, weights come from this machine alone")
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    offline = (
        "Weights that are not on this machine yet cannot be fetched. Open the way (HTTPS_PROXY), name a mirror "
        "(HF_ENDPOINT), or set HF_HUB_OFFLINE=1 where own weights are enough."
    )
    try:
        status = httpx.head(address, timeout=HUB_SECONDS, follow_redirects=True).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return warning("hub", f"{address} does not answer: {error or type(error).__name__}", do=offline)
    if status >= 400:
        return warning("hub", f"{address} answers {status}", do=offline)
    return ok("hub", f"{address} answers")


def has_cuda_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _index(device: str) -> int:
    number = device.removeprefix("cuda").removeprefix(":")
    return int(number) if number.isdigit() else 0


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


@cache
def _asked(code: str) -> Mapping[str, Any]:
    """What a process of its own says."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {PROBE_SECONDS:.0f} s"}
    if done.returncode == 0:
        answer: Mapping[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer
    lines = done.stderr.strip().splitlines()
    return {"error": lines[-1] if lines else f"its process ended with status {done.returncode}"}


def _unfit(torch_version: str) -> str | None:
    """Which of the packages around torch wants another one than is installed."""
    for package in ("zooscout", "torchvision"):
        for text in (requires(package) or ()) if _installed(package) else ():
            wanted = Requirement(text)
            applies = wanted.marker is None or wanted.marker.evaluate({"extra": "worker"})
            if wanted.name == "torch" and applies and not _meets(torch_version, wanted.specifier):
                return f"{package} {version(package)} needs torch {wanted.specifier}"
    return None


def _meets(found: str, wanted: SpecifierSet) -> bool:
    return wanted.contains(Version(found), prereleases=True)


def _size(count: int) -> str:
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def nearest(folder: Path, /) -> Path:
    """The folder, or the first above it that is there."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
