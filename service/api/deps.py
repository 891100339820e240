"""What endpoints are handed."""

from dataclasses import dataclass
from typing import Annotated, cast
from urllib.parse import SplitResult, urlsplit

from fastapi import Depends, Request

from service.api.following import Followers
from service.api.rates import Rates
from service.core.db import Database
from service.core.errors import InvalidRequest
from service.core.settings import LOOPBACK, Settings
from service.core.text import is_storable
from service.keys import service as keys
from service.keys.errors import Forbidden, TooManyRequests, Unauthorized
from service.keys.schemas import Scope
from service.keys.tables import DEFAULT_PROJECT

KEY_COOKIE = "zooscout_key"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class App:
    settings: Settings
    database: Database
    followers: Followers
    rates: Rates


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is and how far it may go."""

    project_id: str
    scope: Scope
    key_id: str | None


def _app(request: Request) -> App:
    return cast(App, request.app.state.zooscout)


AppDep = Annotated[App, Depends(_app)]


def caller(request: Request, app: AppDep) -> Caller:
    """Who asks, once they may: by key wherever one is sent or needed, else as the one user of this machine.

    Raises:
        Unauthorized: A key is needed and none is sent, or the one sent is not valid.
        Forbidden: The key's scope does not reach, or another site's page sent the request.
        TooManyRequests: The key asks more often than it may.
    """
    _refuse_other_sites(request, keyless=not app.settings.server.needs_key)
    token = _token(request)
    needed = Scope.READ if request.method in SAFE_METHODS else Scope.WRITE
    if token is None:
        if app.settings.server.needs_key:
            raise Unauthorized("This service needs an API key: send it as `Authorization: Bearer …`.")
        return _noted(request, Caller(DEFAULT_PROJECT, Scope.ADMIN, None))
    with app.database.read() as session:
        access = keys.check(session, token)
    who = _noted(request, Caller(access.project_id, access.scope, access.key_id))
    allowance = request.state.allowance = app.rates.take(access.key_id)
    if allowance is not None and not allowance.granted:
        raise TooManyRequests(
            f"This key may ask {app.settings.server.requests_per_minute} times a minute: wait as Retry-After says."
        )
    access.require(needed)
    if access.last_use_is_old:
        with app.database.write() as session:
            keys.note_use(session, access)
    return who


def _noted(request: Request, who: Caller) -> Caller:
    request.state.caller = who  # for the audit log
    return who


def _token(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return request.cookies.get(KEY_COOKIE)
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("Send the key as `Authorization: Bearer …`.")
    return token.strip()


def _refuse_other_sites(request: Request, /, *, keyless: bool) -> None:
    """Where no key is asked, or a cookie carries it, the browser's word for where a request comes from must hold."""
    host = request.headers.get("host", "")
    if keyless and _parts(f"//{host}").hostname not in LOOPBACK:
        # A page elsewhere whose name was made to point here (DNS rebinding).
        raise Forbidden(f"Without API keys the service answers to localhost only, not to '{host}'.")
    origin = request.headers.get("origin")
    if request.method not in SAFE_METHODS and origin is not None and (_parts(origin).netloc or None) != host:
        raise Forbidden(f"A page of {origin} may not change anything here.")


def _parts(address: str, /) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:  # brackets that do not match
        return urlsplit("")


def _project(who: Annotated[Caller, Depends(caller)]) -> str:
    return who.project_id


def _admin(who: Annotated[Caller, Depends(caller)]) -> str:
    if not who.scope.reaches(Scope.ADMIN):
        raise Forbidden(f"This key has the scope '{who.scope}'; the request needs 'admin'.")
    return who.project_id


def storable_address(request: Request) -> None:
    """Refuses a path or query that no column could hold."""
    if not is_storable(request.url.path) or "%00" in str(request.url.query):
        raise InvalidRequest("An address must hold no NUL byte.")


ProjectDep = Annotated[str, Depends(_project)]
AdminDep = Annotated[str, Depends(_admin)]
