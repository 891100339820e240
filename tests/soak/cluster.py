"""A Ray cluster as processes: a head that runs no tasks, and two nodes that do, to be killed and replaced."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.service import ROOT
from tests.soak.links import free_port
from tests.soak.plan import HEAD, NODES
from tests.soak.process import Process

READY = "Ray runtime started"
STORE_BYTES = 80 * 2**20
START_SECONDS = 60.0


@dataclass(frozen=True)
class Cluster:
    port: int
    processes: dict[str, Process]
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> None:
        """The head first, then one node after another: of two at once, one is at times not heard of."""
        for name in self.processes:
            self.start_one(name)

    def start_one(self, name: str) -> None:
        """Waits for it, but not for ever: what does not start is started again by who watches over the town."""
        with self._turn:
            self.processes[name].start()
            deadline = time.monotonic() + START_SECONDS
            while not self.processes[name].up() and time.monotonic() < deadline:
                time.sleep(0.1)

    def kill(self) -> None:
        """No head may start while nodes of the one before are there: Ray takes them for a cluster that runs."""
        for process in self.processes.values():
            process.kill(whole=True)


@contextmanager
def ray_cluster(logs: Path) -> Iterator[Cluster]:
    """Starts meanwhile; gone when the block ends."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ZOOSCOUT_", "RAY_"))}
    environment = kept | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    port = free_port()
    # Not among the logs: sockets lie in it, whose paths end at 107 bytes.
    with tempfile.TemporaryDirectory(prefix="zs-ray-", ignore_cleanup_errors=True) as sockets:
        start = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block"]
        start += [f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats"]
        head = [f"--port={port}", "--head", "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={sockets}"]
        node = [f"--address=127.0.0.1:{port}", "--num-cpus=1"]
        words = {HEAD: [*start, *head]} | {name: [*start, *node] for name in NODES}
        made = {name: Process(name, given, environment, logs, ready=READY) for name, given in words.items()}
        cluster = Cluster(port, made)
        starting = threading.Thread(target=cluster.start, name="ray", daemon=True)
        starting.start()
        try:
            yield cluster
        finally:
            starting.join()
            cluster.kill()
