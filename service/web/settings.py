"""What admins see to: keys, webhooks, workers, models in quarantine."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from service.api.deps import AdminDep, App, AppDep
from service.jobs import repository as jobs
from service.keys import service as keys
from service.keys.schemas import KeyCreate
from service.models import service as catalog
from service.models.schemas import ModelFilter
from service.web.contexts import SettingsPage
from service.web.forms import FormDep, judged
from service.web.rendering import render
from service.webhooks import service as webhooks
from service.webhooks.events import Event
from service.webhooks.schemas import WebhookCreate

router = APIRouter()
LISTED = 200


@router.get("/settings")
def show_settings(request: Request, app: AppDep, project: AdminDep) -> HTMLResponse:
    return _page(request, app, project)


def _page(request: Request, app: App, project: str, secret: tuple[str, str] | None = None) -> HTMLResponse:
    with app.database.read() as session:
        page = SettingsPage(
            keys=keys.list_keys(session, project),
            secret=secret,
            webhooks=webhooks.list_webhooks(session, project),
            events=[event for event in Event],
            workers=jobs.workers(session),
            queue=jobs.queue_of(session, project),
            quarantined=catalog.list_models(session, project, ModelFilter(quarantined=True), limit=LISTED).items,
        )
    return render(request, "settings.html", page)


@router.post("/settings/keys")
def create_key(request: Request, app: AppDep, project: AdminDep, form: FormDep) -> HTMLResponse:
    """Shows the key in the answer itself: it is in no address and shown this once."""
    body = judged(KeyCreate, form.filled("name", "scope", "expires_in_days"))
    with app.database.write() as session:
        made = keys.create(session, project, body)
    return _page(request, app, project, (f"The key '{made.name}'", made.key))


@router.post("/settings/keys/{key}/revoke")
def revoke_key(app: AppDep, project: AdminDep, key: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        keys.revoke(session, key, project_id=project)
    return RedirectResponse("/settings#keys", status_code=303)


@router.post("/settings/webhooks")
def create_webhook(request: Request, app: AppDep, project: AdminDep, form: FormDep) -> HTMLResponse:
    body = judged(WebhookCreate, {**form.filled("url"), "events": form.every("event")})
    allowed = app.settings.webhooks.allow_private_addresses
    with app.database.write() as session:
        made = webhooks.create(session, project, body, allow_private=allowed)
    return _page(request, app, project, (f"The secret that signs what is sent to {made.url}", made.secret))


@router.post("/settings/webhooks/{webhook}/ping")
def ping_webhook(app: AppDep, project: AdminDep, webhook: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        webhooks.ping(session, project, webhook)
    return RedirectResponse("/settings#webhooks", status_code=303)


@router.post("/settings/webhooks/{webhook}/remove")
def remove_webhook(app: AppDep, project: AdminDep, webhook: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        webhooks.remove(session, project, webhook)
    return RedirectResponse("/settings#webhooks", status_code=303)
