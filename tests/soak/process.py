"""One process of the service, to be started, signalled and killed."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Process:
    """One that is started again whenever it ends, as an engine of containers does."""

    name: str
    words: list[str]
    environment: Mapping[str, str]
    folder: Path
    ready: str  # what it says once it serves
    user: str | None = None
    child: "subprocess.Popen[bytes] | None" = None
    wanted: bool = False  # False while a fault keeps it down
    ended: list[str] = field(default_factory=list)  # times that it ended by itself after it was ready
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def start(self) -> None:
        with self.lock:
            self.wanted = True
            if self.child is not None and self.child.poll() is None:
                return
            with self.log.open("ab") as out:
                self._from = out.tell()
                self.child = subprocess.Popen(
                    self.words,
                    env=dict(self.environment),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    user=self.user,
                )

    def said(self) -> str:
        """Since it was last started."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def up(self) -> bool:
        """Whether it has said so since it was last started."""
        return self.child is not None and self.ready in self.said()

    def send(self, number: signal.Signals, *, whole: bool) -> None:
        """To the process; `whole`: to all below it as well, as when its machine stops."""
        with self.lock:
            if self.child is not None and self.child.poll() is None:
                for pid in [self.child.pid, *(self.children() if whole else ())]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, number)

    def kill(self, *, whole: bool) -> None:
        with self.lock:
            self.wanted = False
            self.send(signal.SIGKILL, whole=whole)
            if self.child is not None:
                self.child.wait()

    def end(self, number: signal.Signals, seconds: float) -> int | None:
        """Its status, or None where it had to be killed."""
        with self.lock:
            self.wanted = False
            self.send(number, whole=False)
            if self.child is None:
                return 0
            try:
                return self.child.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                return None

    def children(self) -> list[int]:
        """Every process below it that computes; not what Python keeps beside them."""
        if self.child is None:
            return []
        parents: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(
                    int(path.parent.name)
                )
        found, look = [], list(parents.get(self.child.pid, []))
        while look:
            pid = look.pop()
            look += parents.get(pid, [])
            with suppress(OSError):
                if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return sorted(found)


def until(true: Callable[[], object], /, *, seconds: float = 90.0, why: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {seconds:g} s: {why}")
        time.sleep(0.1)
