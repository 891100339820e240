"""Pages made of templates: the environment, and the frame that each page stands in."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version

from fastapi import Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from estimators.catalog import SPECS
from service.api.deps import KEY_COOKIE, Caller
from service.keys.schemas import Scope
from service.rankings.display import layers, notes, value_and_error
from service.web.contexts import Frame, Page
from service.web.paths import TEMPLATES

CSRF_COOKIE, THEME_COOKIE = "zooscout_csrf", "zooscout_theme"
THEMES = ("light", "dark")
YEAR = 365 * 24 * 3600
PLOTLY_VERSION = version("plotly")


def thousands(number: int | None) -> str:
    return "?" if number is None else f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def millions(number: int | None) -> str:
    """A count of parameters or of multiply-adds, to three digits."""
    if number is None:
        return ""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 2 h 10 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def at_work(devices: Sequence[str]) -> str:
    """The workers of these devices; where there is none, one is spoken of."""
    number = max(1, len(devices))
    noun = "GPU" if devices and all(device.startswith("cuda") for device in devices) else "worker"
    return f"{number} {noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def moment(at: datetime | None) -> str:
    return "" if at is None else at.strftime("%Y-%m-%d %H:%M")


def with_title(name: str) -> tuple[str, str]:
    """As a choice of an estimator: its name and its title."""
    return name, SPECS[name].title


def _templates() -> Jinja2Templates:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "value_and_error": value_and_error,
        "layers": layers,
        "notes": notes,
        "thousands": thousands,
        "millions": millions,
        "duration": duration,
        "moment": moment,
        "percent": percent,
        "at_work": at_work,
        "title_of": with_title,
    }
    environment.globals |= {"estimators": SPECS, "plotly_version": PLOTLY_VERSION}
    return Jinja2Templates(env=environment)


templates = _templates()


def render(request: Request, template: str, page: Page, /, *, status: int = 200) -> HTMLResponse:
    known = request.cookies.get(CSRF_COOKIE, "")
    token = known if len(known) == 43 else secrets.token_urlsafe(32)
    theme = request.cookies.get(THEME_COOKIE)
    who: Caller | None = getattr(request.state, "caller", None)
    frame = Frame(
        path=request.url.path,
        query=request.url.query,
        theme=theme if theme in THEMES else None,
        csrf=token,
        signed_in=KEY_COOKIE in request.cookies,
        may_write=who is not None and who.scope.reaches(Scope.WRITE),
        admin=who is not None and who.scope.reaches(Scope.ADMIN),
    )
    answer = templates.TemplateResponse(request, template, {"page": page, "frame": frame}, status_code=status)
    answer.headers["Cache-Control"] = "private, no-store"  # the token is the reader's own
    if token != known:
        secure = request.url.scheme == "https"
        answer.set_cookie(CSRF_COOKIE, token, max_age=YEAR, httponly=True, samesite="strict", secure=secure)
    return answer
