"""What a look at one part of an installation has found."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARNING = "warning"  # it works, and will not for ever or not for everything
    PROBLEM = "problem"
    SKIPPED = "skipped"  # it could not be looked at, because of another problem


@dataclass(frozen=True, slots=True)
class Check:
    """`do` says what to do about anything but ok."""

    name: str
    state: State
    found: str
    do: str = ""


def ok(name: str, found: str, /) -> Check:
    return Check(name, State.OK, found)


def warning(name: str, found: str, /, *, do: str) -> Check:
    return Check(name, State.WARNING, found, do)


def problem(name: str, found: str, /, *, do: str) -> Check:
    return Check(name, State.PROBLEM, found, do)


def looked(name: str, look: Callable[[], Check], /) -> Check:
    """What looking found; that it failed is a finding as well, and the next part is looked at in any case."""
    try:
        return look()
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        return problem(
            name, f"looking at it failed: {type(error).__name__}: {first}", do="Mend what that says, and look again."
        )
