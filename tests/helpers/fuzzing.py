"""schemathesis over the service's own description, with ids that exist put in where it made some up."""

import math
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.engine import Status, events, from_schema
from schemathesis.transport.serialization import Binary

from tests.data.archives import zip_bytes
from tests.helpers.inhabited import Inhabited, features
from tests.helpers.pictures import class_folders, zipped

# What must hold of any answer to anything.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
KNOWN_SHARE = 0.6
# Text that something between here and the database once took badly, or might.
ODD = (
    "\x00",
    "a\x00b",
    "\ud800",
    "é\u0301\u202e",
    "'; DROP TABLE models; --",
    "%00",
    "../../etc/passwd",
    "%",
    "_",
    "\\",
    "NaN",
    "Infinity",
    "-0",
    "1e309",
    str(2**31),
    str(2**63),
    str(-(2**63) - 1),
    "9" * 400,
    "x" * 5000,
    "[]",
    "null",
    "0001-01-01T00:00:00Z",
    "WyItY3JlYXRlZF9hdCIsbnVsbCwiXHUwMDAwIl0",
    "WyJuYW1lIiwxZTk5OSwiYSJd",
)


@dataclass
class Found:
    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: dict[str, Counter[int]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)  # the first of each kind and endpoint

    @property
    def beyond_the_door(self) -> set[str]:
        """Endpoints that were seen to do what they are for."""
        return {label for label, seen in self.operations.items() if any(status < 400 for status in seen)}


def config(*, seed: int, examples: int, phases: Sequence[str], headers: Mapping[str, str]) -> schemathesis.Config:
    every = ("examples", "coverage", "fuzzing", "stateful")
    return schemathesis.Config.from_dict(
        {
            "seed": seed,
            "headers": dict(headers),
            "continue-on-failure": True,
            "request-timeout": 20,
            "max-stream-events": 1,
            "suppress-health-check": ["all"],
            "generation": {"max-examples": examples, "no-shrink": True, "database": "none", "deterministic": False},
            "phases": {name: {"enabled": name in phases} for name in every},
            "checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}},
        }
    )


def know(schema: Any, known: Inhabited, /) -> None:
    """Puts what exists, and what is odd, in the place of some of what is made up."""

    def chance(*seed: object) -> random.Random:
        return random.Random(repr(seed))

    def chosen(name: str, value: Any, dice: random.Random, *, removal: bool = False) -> Any:
        pool = (known.doomed if removal else known.ids).get(name)
        if pool and dice.random() < KNOWN_SHARE:
            return dice.choice(pool)
        return dice.choice(ODD) if isinstance(value, str) and dice.random() < 0.1 else value

    @schema.hook("map_path_parameters")
    def in_path(context: Any, path_parameters: Any) -> Any:
        if not path_parameters:
            return path_parameters
        dice = chance(sorted(path_parameters.items()))
        removal = context.operation.method.lower() == "delete"
        made = {name: chosen(name, value, dice, removal=removal) for name, value in path_parameters.items()}
        # Of a path, a client sends neither; a query may hold both.
        return {k: v for k, v in made.items()} if all(_sendable(v) for v in made.values()) else path_parameters

    @schema.hook("map_query")
    def in_query(_context: Any, query: Any) -> Any:
        if not query:
            return query
        dice = chance(sorted(query.items(), key=str))
        made = {name: chosen(name, value, dice) for name, value in query.items()}
        if "image" in made and dice.random() < KNOWN_SHARE:
            made["image"] = known.image
        return made if all(_sendable(v) for v in made.values()) else query

    @schema.hook("map_body")
    def in_body(context: Any, body: Any) -> Any:
        if isinstance(body, Binary):
            dice = chance(body.data)
            if context.operation.path == "/v1/scores":
                return Binary(features()) if dice.random() < KNOWN_SHARE else body
            whole = zipped(class_folders(each=1, marker=dice.randbytes(4)))
            return Binary(dice.choice([whole, whole[: dice.randrange(len(whole))], zip_bytes({"a": b""}), body.data]))
        if not isinstance(body, dict):
            return body
        dice = chance(sorted(body.items(), key=str))
        if context.operation.path.endswith("/versions") and dice.random() < KNOWN_SHARE:
            return {"remove": [known.image]}
        made = {name: chosen({"add": "dataset"}.get(name, name), value, dice) for name, value in body.items()}
        if "models" in made and dice.random() < KNOWN_SHARE:
            made["models"] = known.ids["model"]
        return made


def _sendable(value: Any) -> bool:
    if isinstance(value, list):
        return all(_sendable(item) for item in value)
    return not isinstance(value, str) or (value not in ("", ".", "..") and "\ud800" not in value)


def run(schema: Any, /, *, seconds: float = math.inf) -> Found:
    """Begins no new scenario after so many seconds."""
    found = Found()
    stream, ends = from_schema(schema).execute(), time.monotonic() + seconds
    for event in stream:
        if time.monotonic() > ends:
            stream.stop()
        if isinstance(event, events.NonFatalError | events.FatalError):
            error = event.value if isinstance(event, events.NonFatalError) else event.exception
            found.failures.setdefault(f"error {getattr(event, 'label', '')}", f"{type(error).__name__}: {error}")
        if not isinstance(event, events.ScenarioFinished):
            continue
        recorder = event.recorder
        for ident, interaction in recorder.interactions.items():
            found.cases += 1
            label = recorder.cases[ident].value.operation.label
            status = interaction.response.status_code if interaction.response is not None else 0
            found.statuses[status] += 1
            found.operations.setdefault(label, Counter())[status] += 1
        for ident, checks in recorder.checks.items():
            for check in checks:
                if check.status != Status.FAILURE or check.failure_info is None:
                    continue
                interaction = recorder.interactions.get(ident)
                request = interaction.request if interaction else None
                said = interaction.response.content[:400] if interaction and interaction.response else b""
                if b'"ready":false' in said and recorder.cases[ident].value.operation.path == "/readyz":
                    continue  # a 503 is what it was asked for
                failure = check.failure_info.failure
                key = f"{check.name} {recorder.cases[ident].value.operation.label} {failure._unique_key}"
                asked = f"{request.method} {request.uri[:500]} {(request.body or b'')[:300]!r}" if request else ""
                found.failures.setdefault(key, f"{failure.message[:300]}\n    {asked}\n    {said!r}")
    return found
