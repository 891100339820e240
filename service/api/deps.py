"""What endpoints are handed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, cast
from urllib.parse import SplitResult, urlsplit

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic_core import to_json
from sqlalchemy.orm import Session

from service.api.following import Followers
from service.api.measured import Measures
from service.api.rates import Rates
from service.api.remembered import Answer, Answers, Key, Stamps, tag_of
from service.core.db import Database
from service.core.errors import InvalidRequest
from service.core.settings import LOOPBACK, Settings
from service.core.text import is_storable
from service.keys import service as keys
from service.keys.errors import Forbidden, TooManyRequests, Unauthorized
from service.keys.schemas import Scope
from service.keys.tables import DEFAULT_PROJECT
from service.operation.readiness import Prober

KEY_COOKIE = "zooscout_key"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class App:
    settings: Settings
    database: Database
    followers: Followers
    rates: Rates
    measures: Measures
    prober: Prober
    stamps: Stamps
    answers: Answers = field(default_factory=Answers)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is and how far it may go."""

    project_id: str
    scope: Scope
    key_id: str | None


# What only looks at the request is `async`, although nothing is awaited: as `def`, each would take a turn in the pool.
async def _app(request: Request) -> App:
    return cast(App, request.app.state.zooscout)


AppDep = Annotated[App, Depends(_app)]


async def caller(request: Request, app: AppDep) -> Caller:
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
    return await run_in_threadpool(_bearer, request, app, token, needed)


def _bearer(request: Request, app: App, token: str, needed: Scope) -> Caller:
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


async def _project(who: Annotated[Caller, Depends(caller)]) -> str:
    return who.project_id


async def _admin(who: Annotated[Caller, Depends(caller)]) -> str:
    if not who.scope.reaches(Scope.ADMIN):
        raise Forbidden(f"This key has the scope '{who.scope}'; the request needs 'admin'.")
    return who.project_id


async def storable_address(request: Request) -> None:
    """Refuses a path or query that no column could hold."""
    if not is_storable(request.url.path) or "%00" in str(request.url.query):
        raise InvalidRequest("An address must hold no NUL byte.")


ProjectDep = Annotated[str, Depends(_project)]
AdminDep = Annotated[str, Depends(_admin)]


class Remembered(Exception):
    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class Reader:
    """Answers a GET whose answer depends on its address and the database alone."""

    def __init__(self, app: App, key: Key, stamp: str) -> None:
        self._app, self._key, self._stamp = app, key, stamp

    def show(self, make: Callable[[Session, str], object], /) -> Response:
        """What `make` gives for the session and the project: a model of pydantic's, or a dataclass."""
        with self._app.database.read() as session:
            body = to_json(make(session, self._key[0]), by_alias=True, inf_nan_mode="null")
        answer = Answer(body, tag_of(body))
        self._app.answers.put(self._key, self._stamp, answer)
        return shown(answer)


def shown(answer: Answer, /) -> Response:
    return Response(answer.body, media_type="application/json", headers={"ETag": answer.tag})


async def _reader(request: Request, app: AppDep, project: ProjectDep) -> Reader:
    """Raises Remembered where nothing was committed since the answer was made: then no thread is taken for it."""
    key = (project, request.scope["path"], request.scope["query_string"])
    stamp = await app.stamps.get()
    answer = app.answers.get(key, stamp)
    if answer is not None:
        raise Remembered(answer)
    return Reader(app, key, stamp)


ReaderDep = Annotated[Reader, Depends(_reader)]
