"""The executors that a process may choose from: ours, and those of installed packages."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from types import MappingProxyType

from service.core.errors import InvalidRequest
from service.core.settings import Settings
from service.executors.devices import local_executors
from service.executors.local import LocalExecutor
from service.executors.protocol import Executor, Start

Opener = Callable[[Settings, Start], Sequence[Executor]]
"""Makes one executor for each task that may run at once."""


def _ray(settings: Settings, start: Start) -> Sequence[Executor]:
    from service.executors.ray import ray_executors

    return ray_executors(settings, start)


OURS: Mapping[str, Opener] = MappingProxyType({"local": local_executors, "ray": _ray})


def open_one(settings: Settings, start: Start, /) -> Executor:
    """For a program that runs one task at a time; of several devices it takes the first."""
    if settings.executor.kind == "local":
        return LocalExecutor(start, settings, device=settings.worker.device)
    return open_executors(settings, start)[0]


def open_executors(settings: Settings, start: Start, /) -> Sequence[Executor]:
    """The executors that the settings name.

    Raises:
        InvalidRequest: There is none of this name.
    """
    kind = settings.executor.kind
    if kind in OURS:
        return OURS[kind](settings, start)
    others = {point.name: point for point in entry_points(group="zooscout.executors")}
    if kind not in others:
        known = ", ".join([*OURS, *sorted(others)])
        raise InvalidRequest(f"There is no executor '{kind}' (ZOOSCOUT_EXECUTOR__KIND): there are {known}.")
    opener: Opener = others[kind].load()
    return opener(settings, start)
