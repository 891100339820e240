"""A Ray cluster of one or two small nodes on this machine, as a process of its own that nothing outlives."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.service import ROOT

_TOWN = """
import sys
from ray.cluster_utils import Cluster
small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
town = Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
second = town.add_node(**small) if sys.argv[1] == "2" else None
print("ADDRESS", town.address, flush=True)
sys.stdin.readline()
town.remove_node(second, allow_graceful=False)
print("KILLED", flush=True)
sys.stdin.readline()
"""


@dataclass(frozen=True)
class RayCluster:
    address: str
    process: "subprocess.Popen[str]"

    def kill_a_node(self) -> None:
        """The one without the cluster's head; returns once it is gone."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self._said("KILLED")

    def _said(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
        raise AssertionError(f"the cluster ended before it said {word}")


def two_nodes(log: Path, /) -> AbstractContextManager[RayCluster]:
    return _cluster(log, 2)


def one_node(log: Path, /) -> AbstractContextManager[RayCluster]:
    return _cluster(log, 1)


@contextmanager
def _cluster(log: Path, nodes: int) -> Iterator[RayCluster]:
    env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", _TOWN, str(nodes)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
        )
    try:
        cluster = RayCluster("", process)
        yield RayCluster(cluster._said("ADDRESS"), process)
    finally:
        for pid in [*_descendants(process.pid), process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(FileNotFoundError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            found += [*_descendants(child), child]
    return found
