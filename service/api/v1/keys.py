"""API keys of one's own project; they need the admin scope."""

from fastapi import APIRouter
from sqlalchemy.orm import Session

from service.api.deps import AdminDep, AppDep
from service.api.once import Made, OnceDep
from service.keys import service as keys
from service.keys.schemas import KeyCreate, KeyList, KeyView, NewKey

router = APIRouter(tags=["keys"])


@router.post("/keys", status_code=201, summary="Make an API key; it is shown this once")
def create_key(project: AdminDep, body: KeyCreate, once: OnceDep) -> NewKey:
    def act(session: Session) -> Made[NewKey]:
        view = keys.create(session, project, body)
        return Made(view, 201, f"/v1/keys/{view.id}")

    return once.do(body, act, secret=True)


@router.get("/keys", summary="List keys, newest first, with their last use")
def list_keys(app: AppDep, project: AdminDep) -> KeyList:
    with app.database.read() as session:
        return KeyList(items=keys.list_keys(session, project))


@router.delete("/keys/{key}", summary="Revoke a key, at once and for good")
def revoke_key(app: AppDep, project: AdminDep, key: str) -> KeyView:
    with app.database.write() as session:
        return keys.revoke(session, key, project_id=project)
