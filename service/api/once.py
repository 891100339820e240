"""Requests that may be sent again: the answer is kept in the transaction that did the work."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from service.api.deps import App, AppDep, ProjectDep
from service.idempotency import service as idempotency
from service.idempotency.service import Answer, Repeatable

V = TypeVar("V", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Made(Generic[V]):
    view: V
    status: int
    location: str


class AnsweredBefore(Exception):
    """Not an error: the answer is the one that was given before."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.location)
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Once:
    """Does what a POST asks for, once for each Idempotency-Key."""

    _app: App
    _project: str
    _key: str | None
    _request: Request
    _response: Response

    def look_back(self, content: BaseModel | str, /) -> None:
        """Where the work needs more than one transaction: raises AnsweredBefore before any of it is done."""
        repeatable = self._repeatable(content)
        if repeatable is None:
            return
        with self._app.database.read() as session:
            answer = idempotency.earlier(session, repeatable)
        if answer is not None:
            raise AnsweredBefore(answer)

    def do(self, content: BaseModel | str, act: Callable[[Session], Made[V]], /, *, secret: bool = False) -> V:
        """The view of what `act` made in one transaction; `content` is the body, or its digest.

        Raises:
            AnsweredBefore: The same request came before; nothing is done.
        """
        repeatable = self._repeatable(content)
        with self._app.database.write() as session:
            row = None if repeatable is None else idempotency.begin(session, repeatable)
            if isinstance(row, Answer):
                raise AnsweredBefore(row)
            made = act(session)
            if row is not None:
                answer = Answer(made.status, made.location, made.view.model_dump_json(by_alias=True))
                idempotency.keep(row, answer, secret=secret)
        self._response.status_code = made.status
        self._response.headers["Location"] = made.location
        return made.view

    def _repeatable(self, content: BaseModel | str) -> Repeatable | None:
        if self._key is None:
            return None
        said = content if isinstance(content, str) else content.model_dump_json()
        asked = (self._request.method, self._request.url.path, str(self._request.url.query), said)
        digest = hashlib.sha256("\n".join(asked).encode()).hexdigest()
        return Repeatable(self._project, self._key, digest, self._app.settings.server.keep_answers_seconds)


async def _once(
    request: Request,
    response: Response,
    app: AppDep,
    project: ProjectDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=r"^[\x20-\x7e]{1,255}$",
            description="a value of your choice, new for each thing to be done: a request that repeats it is answered "
            "with the first answer and does nothing again",
            examples=["6f1c2f0e-5b7e-4d0e-9d53-0f2f6f0f6d11"],
        ),
    ] = None,
) -> Once:
    return Once(app, project, idempotency_key, request, response)


OnceDep = Annotated[Once, Depends(_once)]
