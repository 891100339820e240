"""What some work may cost: time, or images that models look at."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from service.core.errors import InvalidRequest

PATTERN = r"^[1-9][0-9]{0,9}(s|m|h|img)$"
_PARTS = re.compile(r"([1-9][0-9]{0,9})(s|m|h|img)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True)
class Budget:
    """One of the two is set. An image counts once for every model that it is embedded by."""

    seconds: float | None = None
    images: int | None = None


def budget_from(text: str, /) -> Budget:
    """Reads `90s`, `10m`, `2h` or `5000img`.

    Raises:
        InvalidRequest: It is none of these.
    """
    found = _PARTS.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidRequest(f"A budget is written 90s, 10m, 2h or 5000img (images times models), not '{text}'.")
    amount, unit = int(found[1]), found[2]
    return Budget(images=amount) if unit == "img" else Budget(seconds=float(amount * _SECONDS[unit]))


def _checked(text: str) -> str:
    budget_from(text)
    return text


BudgetText = Annotated[
    str,
    Field(
        pattern=PATTERN,
        max_length=14,
        description="seconds, minutes or hours (`90s`, `10m`, `2h`), or images, each counted once a model (`5000img`)",
        examples=["10m", "5000img"],
    ),
    AfterValidator(_checked),
]
