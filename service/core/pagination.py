"""Opaque cursors: the sort key and id of the last row served, so that a page costs the same wherever it lies."""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.core.errors import InvalidRequest

T = TypeVar("T")
MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Cursor:
    key: str | int | float | None
    ident: str

    def encode(self, *, sort: str) -> str:
        text = json.dumps([sort, self.key, self.ident], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str, /, *, sort: str) -> "Cursor":
        try:
            made_for, key, ident = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except (ValueError, binascii.Error) as error:
            raise InvalidRequest(
                "The cursor is not one that this service gave out; start from the first page."
            ) from error
        if made_for != sort or not isinstance(ident, str) or isinstance(key, (list, dict)):
            raise InvalidRequest("The cursor belongs to another sort order; start from the first page.")
        return cls(key, ident)
