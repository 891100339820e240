"""What other installed packages add: appended to the tables once, by a process's entry point, under their entry points.

An entry point of the groups below is a spec, which imports nothing heavy: what it names is imported when it is used.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

import structlog

from estimators.catalog import SPECS, EstimatorSpec
from service.datasets.sources import FORMATS, FormatSpec
from zoo.catalog import SOURCES, SourceSpec

log = structlog.get_logger(__name__)
TABLES: Mapping[str, tuple[type, dict[str, Any]]] = MappingProxyType(
    {
        "zooscout.estimators": (EstimatorSpec, SPECS),
        "zooscout.sources": (SourceSpec, SOURCES),
        "zooscout.formats": (FormatSpec, FORMATS),
    }
)


@cache
def load_plugins() -> None:
    """A package that is broken, or that takes a name which is taken, is left out: the log says so."""
    for group, (kind, table) in TABLES.items():
        for point in sorted(entry_points(group=group), key=lambda point: point.name):
            spec = _loaded(point, kind)
            if spec is None:
                continue
            if spec.name in table:
                log.error("plugin.name_taken", plugin=point.value, group=group, name=spec.name)
                continue
            table[spec.name] = spec


def _loaded(point: EntryPoint, kind: type) -> Any:
    try:
        spec = point.load()
    except Exception:  # another's code: it may raise anything, and must not keep the service from starting
        log.exception("plugin.broken", plugin=point.value, group=point.group)
        return None
    if not isinstance(spec, kind):
        log.error("plugin.broken", plugin=point.value, group=point.group, needs=f"an instance of {kind.__qualname__}")
        return None
    return spec
