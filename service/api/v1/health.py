"""Whether the process is alive, and whether it can do its work."""

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from service.api.deps import AppDep
from service.core.migrate import current_revision, head_revision
from service.jobs import repository as jobs

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    ready: bool
    database: bool
    migrated: bool
    store: bool
    workers: int


@router.get("/healthz", summary="Is the process alive")
def healthz() -> Health:
    return Health(status="ok")


@router.get("/readyz", summary="Can the service work", responses={503: {"model": Readiness}})
def readyz(app: AppDep, response: Response) -> Readiness:
    """Ready when the database answers at this code's migration and the data directory is there. Workers are counted,
    not required: without one, work waits."""
    database = migrated = False
    workers = 0
    try:
        migrated = current_revision(app.database) == head_revision()
        database = True
        if migrated:
            with app.database.read() as session:
                workers = jobs.workers_alive(session)
    except SQLAlchemyError:
        pass
    store = app.settings.data_dir.is_dir()
    ready = database and migrated and store
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, database=database, migrated=migrated, store=store, workers=workers)
