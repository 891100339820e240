"""What endpoints are handed."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from service.core.db import Database
from service.core.errors import InvalidRequest
from service.core.settings import Settings
from service.core.text import is_storable
from service.keys.tables import DEFAULT_PROJECT


@dataclass(frozen=True, slots=True)
class App:
    settings: Settings
    database: Database


def _app(request: Request) -> App:
    return cast(App, request.app.state.zooscout)


def _project(_request: Request) -> str:
    return DEFAULT_PROJECT


def storable_address(request: Request) -> None:
    """Refuses a path or query that no column could hold."""
    if not is_storable(request.url.path) or "%00" in str(request.url.query):
        raise InvalidRequest("An address must hold no NUL byte.")


AppDep = Annotated[App, Depends(_app)]
ProjectDep = Annotated[str, Depends(_project)]
