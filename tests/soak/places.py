"""Disks that fill up: small file systems in memory where this user may mount them."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BALLAST = ".ballast"
LEFT_BYTES = 16 << 10  # a few small files still fit: what fails is what is larger


@contextmanager
def small_disk(folder: Path, *, mib: int) -> Iterator[bool]:
    """Whether the folder is a file system of its own until the block ends; else it is a plain folder."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=755", "zooscout-soak", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(words, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def fill(folder: Path) -> int:
    """Leaves next to no room. Returns the bytes it took."""
    room = os.statvfs(folder)
    size = room.f_bavail * room.f_frsize - LEFT_BYTES
    with (folder / BALLAST).open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, size))
    return size


def empty(folder: Path) -> None:
    (folder / BALLAST).unlink(missing_ok=True)
