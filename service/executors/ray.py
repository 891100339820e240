"""Tasks on the nodes of an existing Ray cluster. Ray places and scales; what fails is tried again by our own rules."""

import logging
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import structlog

from service.core.errors import InvalidRequest
from service.core.observing import observe
from service.core.settings import ExecutorSettings, Settings
from service.executors.protocol import End, Executor, Outcome, Perform, Start, Watch
from service.jobs.fate import Cause
from service.jobs.model import Task
from service.plugins import load_plugins
from service.schema import all_tables

log = structlog.get_logger(__name__)
LOOK_SECONDS = 0.1
TALK_SECONDS = 0.3
STOP_SECONDS = 5.0
CAPACITY_SECONDS = 5.0
_Fence = tuple[str, int]


def ray_executors(settings: Settings, start: Start, /) -> list[Executor]:
    """Connects to the cluster; as many executors as tasks may ever run at once, most of them not yet ready.

    Raises:
        InvalidRequest: Ray is not installed, there is no cluster, or its machines share no database.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise InvalidRequest("ZOOSCOUT_EXECUTOR__KIND=ray needs Ray: pip install 'zooscout[ray]'.") from error
    chosen = settings.executor
    if not ray.is_initialized():
        try:
            ray.init(address=chosen.address, log_to_driver=False, namespace="zooscout", logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InvalidRequest(f"No Ray cluster answers at {chosen.address} (ZOOSCOUT_EXECUTOR__ADDRESS).") from error
    machines = {node["NodeManagerAddress"] for node in _nodes()}
    if len(machines) > 1 and settings.database.url is None:
        raise InvalidRequest(
            f"The Ray cluster has {len(machines)} machines, and SQLite serves one: set ZOOSCOUT_DATABASE__URL to a "
            "PostgreSQL that all of them reach, and ZOOSCOUT_DATA_DIR to a directory that all of them share."
        )
    cluster = _Cluster(start, _for_nodes(settings))
    return [RayExecutor(cluster, number) for number in range(chosen.max_tasks)]


def _for_nodes(settings: Settings) -> Settings:
    """Tasks that share a node's cores take as many threads as the cores that they asked for."""
    worker = settings.worker
    if not worker.decode_threads and not settings.executor.num_gpus:
        worker = worker.model_copy(update={"decode_threads": max(1, int(settings.executor.num_cpus))})
    return settings.model_copy(update={"worker": worker, "data_dir": settings.data_dir.absolute()})


class _Board:
    """An actor on the worker's own node, where tasks leave their progress and read that they should stop."""

    def __init__(self) -> None:
        self._progress: dict[_Fence, Mapping[str, Any]] = {}
        self._stopped: set[_Fence] = set()

    def exchange(self, fence: _Fence, progress: Mapping[str, Any]) -> bool:
        self._progress[fence] = progress
        return fence in self._stopped

    def read(self, fence: _Fence, stop: bool) -> Mapping[str, Any] | None:
        if stop:
            self._stopped.add(fence)
        return self._progress.get(fence)

    def forget(self, fence: _Fence) -> None:
        self._progress.pop(fence, None)
        self._stopped.discard(fence)


class _Cluster:
    def __init__(self, start: Start, settings: Settings) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._start, self._settings = start, settings
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self.board: Any = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        # A process serves many tasks, with a GPU too, so that models stay loaded.
        self._remote: Any = ray.remote(max_calls=0)(_perform).options(**_needs(settings.executor))
        self._counting = threading.Lock()
        self._counted_at, self._capacity = -CAPACITY_SECONDS, 0

    def submit(self, task: Task) -> Any:
        return self._remote.remote(self._start, self._settings, task, self.board)

    def capacity(self) -> int:
        """How many tasks the cluster could run at once if it had no others."""
        with self._counting:
            if time.monotonic() - self._counted_at >= CAPACITY_SECONDS:
                self._capacity = sum(_fit(node["Resources"], self._settings.executor) for node in _nodes())
                self._counted_at = time.monotonic()
            return self._capacity


def _nodes() -> list[Mapping[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _fit(resources: Mapping[str, float], chosen: ExecutorSettings) -> int:
    needed: Mapping[str, float] = {"CPU": chosen.num_cpus, "GPU": chosen.num_gpus, "memory": chosen.memory_bytes or 0}
    return int(min(resources.get(name, 0.0) // amount for name, amount in needed.items() if amount))


def _needs(chosen: ExecutorSettings) -> dict[str, Any]:
    needs: dict[str, Any] = {
        "num_cpus": chosen.num_cpus,
        "num_gpus": chosen.num_gpus,
        "max_retries": 0,  # ours are decided by what failed
        "scheduling_strategy": "SPREAD",
    }
    return needs | ({"memory": chosen.memory_bytes} if chosen.memory_bytes else {})


class RayExecutor:
    """One of the tasks that may run at once."""

    device = "ray"

    def __init__(self, cluster: _Cluster, number: int, /) -> None:
        self._cluster, self._number = cluster, number

    def warm(self) -> None:
        pass

    def ready(self) -> bool:
        """One more than fit now may wait in the cluster, for its autoscaler to see."""
        return self._number <= self._cluster.capacity()

    def run(self, task: Task, watch: Watch, /, *, seconds: float) -> Outcome:
        import ray

        fence, board = (task.id, task.fence), self._cluster.board
        ref = self._cluster.submit(task)
        heard, began, stop_by = None, None, None
        talked = time.monotonic()
        try:
            while not ray.wait([ref], timeout=LOOK_SECONDS)[0]:
                now = time.monotonic()
                stopping = stop_by is not None
                if not stopping and watch.cancelled():
                    stop_by, stopping = now + STOP_SECONDS, True
                if now - talked >= TALK_SECONDS or stopping:
                    said = _asked(board.read.remote(fence, stopping))
                    talked = now
                    began = began or (now if said is not None else None)
                    if said and said != heard:
                        watch.report(said)
                        heard = said
                if stop_by is not None and (now > stop_by or began is None):
                    return self._ended(ref, Outcome(End.STOPPED))
                if began is not None and now > began + seconds:
                    return self._ended(ref, Outcome(End.FAILED, Cause.OVERDUE, "It took longer than it may."))
            said = _asked(board.read.remote(fence, False))
            if said and said != heard:
                watch.report(said)
            return _outcome(ref)
        finally:
            board.forget.remote(fence)

    def close(self) -> None:
        pass

    def _ended(self, ref: Any, outcome: Outcome) -> Outcome:
        import ray

        with suppress(Exception):
            ray.cancel(ref, force=True)
        return outcome


def _asked(ref: Any) -> Any:
    import ray

    try:
        return ray.get(ref, timeout=2.0)
    except ray.exceptions.RayError:  # the board is away: the task goes on, and its lease is renewed here
        return None


def _outcome(ref: Any) -> Outcome:
    import ray

    try:
        outcome: Outcome = ray.get(ref)
    except (ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError, ray.exceptions.RaySystemError) as error:
        return Outcome(End.FAILED, Cause.NODE_LOST, f"The node that worked on it was lost ({type(error).__name__}).")
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        return Outcome(End.FAILED, Cause.KILLED, f"The process that worked on it ended ({type(error).__name__}).")
    except ray.exceptions.RayError as error:
        log.exception("executor.ray_failed")
        return Outcome(End.FAILED, Cause.UNAVAILABLE, f"Ray could not run it: {type(error).__name__}.")
    return outcome


# -- on a node ---------------------------------------------------------------------------------------------------------


def _perform(start: Start, settings: Settings, task: Task, board: Any) -> Outcome:
    import ray

    fence = (task.id, task.fence)
    progress: dict[str, Any] = {"node": ray.get_runtime_context().get_node_id()}
    stopped, over = threading.Event(), threading.Event()

    def exchange() -> None:
        with suppress(ray.exceptions.RayError):
            if ray.get(board.exchange.remote(fence, dict(progress)), timeout=10.0):
                stopped.set()

    def talk() -> None:
        while not over.wait(TALK_SECONDS):
            exchange()

    exchange()  # its time begins now
    talker = threading.Thread(target=talk, name="talk", daemon=True)
    talker.start()
    try:
        return _begun(start, settings.model_dump_json())(task, Watch(progress.update, stopped.is_set))
    except MemoryError:
        return Outcome(End.FAILED, Cause.TOO_COSTLY, "It needs more memory than it is given.")
    finally:
        over.set()
        talker.join()
        exchange()


@cache
def _begun(start: Start, settings: str) -> Perform:
    """Once a process: Ray gives one process many tasks."""
    made = Settings.model_validate_json(settings)
    observe(made, role="worker")
    load_plugins()
    all_tables()
    return start(made)
