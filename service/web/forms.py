"""Forms as browsers send them, without a script: each carries the token of the page that it stood on."""

import hmac
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qs

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from service.core.errors import InvalidRequest
from service.core.text import is_storable
from service.keys.errors import Forbidden
from service.web.rendering import CSRF_COOKIE

MAX_FIELDS = 1000
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Form:
    _fields: dict[str, list[str]]

    def every(self, name: str, /) -> list[str]:
        """What was filled in, in order."""
        return [value.strip() for value in self._fields.get(name, []) if value.strip()]

    def one(self, name: str, /) -> str | None:
        found = self.every(name)
        return found[0] if found else None

    def filled(self, *names: str) -> dict[str, str]:
        """What was filled in of these fields, for a schema to judge."""
        return {name: value for name in names if (value := self.one(name)) is not None}


async def _form(request: Request) -> Form:
    """Raises Forbidden where the form does not come from a page that this service gave to this browser."""
    body = await request.body()
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise InvalidRequest("The form is not written as browsers write it.") from error
    if not is_storable(list(fields.items())):
        raise InvalidRequest("A form must hold no NUL byte.")
    token, cookie = fields.get("csrf", [""])[0], request.cookies.get(CSRF_COOKIE, "")
    if not cookie or not hmac.compare_digest(token.encode(), cookie.encode()):
        raise Forbidden("The form has grown old, or another site sent it: open the page again and send it from there.")
    return Form(fields)


FormDep = Annotated[Form, Depends(_form)]


def judged(schema: type[T], given: dict[str, Any], /) -> T:
    """Raises RequestValidationError, which says what is wrong where."""
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error
