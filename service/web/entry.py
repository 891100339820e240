"""The door for people: a key typed once is kept in a cookie that no script can read."""

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse

from service.api.deps import KEY_COOKIE, App, AppDep
from service.keys import service as keys
from service.keys.errors import Unauthorized
from service.web.contexts import LoginPage
from service.web.forms import FormDep
from service.web.rendering import THEME_COOKIE, THEMES, YEAR, render

router = APIRouter(tags=["web"])
MAX_FORM_BYTES = 4096
COOKIE_SECONDS = 30 * 24 * 3600


@router.get("/login")
def login(request: Request, next: Annotated[str, Query(max_length=2000)] = "/") -> HTMLResponse:
    return _page(request, next, refused=None)


@router.post("/login")
async def enter(request: Request, app: AppDep) -> Response:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            return _page(request, "/", refused="That is no key.")
    form = parse_qs(body.decode("utf-8", "replace"))
    key, target = form.get("key", [""])[0].strip(), form.get("next", ["/"])[0]
    try:
        await run_in_threadpool(_check, app, key)
    except Unauthorized as refusal:
        return _page(request, target, refused=str(refusal))
    answer = RedirectResponse(_local(target), status_code=303)
    answer.set_cookie(
        KEY_COOKIE, key, max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=request.url.scheme == "https"
    )
    return answer


@router.post("/logout")
def leave() -> RedirectResponse:
    answer = RedirectResponse("/login", status_code=303)
    answer.delete_cookie(KEY_COOKIE)
    return answer


@router.post("/theme")
def choose_theme(form: FormDep) -> RedirectResponse:
    answer = RedirectResponse(_local(form.one("next") or "/"), status_code=303)
    theme = form.one("theme")
    if theme in THEMES:
        answer.set_cookie(THEME_COOKIE, theme, max_age=YEAR, httponly=True, samesite="strict")
    return answer


def _check(app: App, key: str) -> None:
    with app.database.read() as session:
        keys.check(session, key)


def _local(target: str) -> str:
    """An address on this service: whoever made the link must not send people elsewhere."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) else "/"


def _page(request: Request, target: str, /, *, refused: str | None) -> HTMLResponse:
    page = LoginPage(target=_local(target), refused=refused)
    return render(request, "login.html", page, status=200 if refused is None else 401)
