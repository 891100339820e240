"""Opaque cursors: the sort key and id of the last row served, so that a page costs the same wherever it lies."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.core.errors import InvalidRequest
from service.core.text import is_storable

T = TypeVar("T")
MAX_LIMIT = 1000
MADE_UP = "The cursor is not one that this service gave out; start from the first page."


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Cursor:
    key: str | float | None
    ident: str

    def encode(self, *, sort: str) -> str:
        text = json.dumps([sort, self.key, self.ident], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str, /, *, sort: str, key_type: type[str] | type[float] | None = None) -> "Cursor":
        """Reads a token back. A client can make one up, so nothing of it is taken that a column could not hold.

        Raises:
            InvalidRequest: The token is made up, or was given out for another order.
        """
        try:
            made_for, key, ident = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except (TypeError, ValueError, binascii.Error) as error:
            raise InvalidRequest(MADE_UP) from error
        if made_for != sort:
            raise InvalidRequest("The cursor belongs to another sort order; start from the first page.")
        right_key = key is None or (key_type is not None and type(key) is key_type)
        small = not isinstance(key, int | float) or abs(key) < 2**62  # nor NaN
        if not right_key or not small or not isinstance(ident, str) or not is_storable([key, ident]):
            raise InvalidRequest(MADE_UP)
        return cls(key, ident)
