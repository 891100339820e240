"""Whether the process is alive, and whether it can do its work."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from service.api.deps import AppDep

router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: str


class Readiness(BaseModel):
    ready: bool
    database: bool = Field(description="it answers")
    migrated: bool = Field(description="it is at this code's migration")
    store: bool = Field(description="files can be written, read and removed")
    workers: int = Field(description="seen within half a minute")
    problems: list[str] = Field(description="what is not as it should be; no names and no paths")


@router.get("/healthz", summary="Is the process alive")
def healthz() -> Health:
    """Answered by one of the threads that answer everything: without an answer, the process should be restarted."""
    return Health(status="ok")


@router.get("/readyz", summary="Can the service work", responses={503: {"model": Readiness}})
def readyz(
    app: AppDep,
    response: Response,
    worker: Annotated[
        Literal["counted", "required"], Query(description="required: not ready while no worker is alive")
    ] = "counted",
) -> Readiness:
    """Ready when the database answers at this code's migration and the store can be written and read.

    Workers are counted: without one the service still answers, and work waits. Who wants to be told of that asks with
    `worker=required`.
    """
    found = app.prober.look()
    faults = {
        "The database does not answer.": not found.database,
        "The database is at another migration than this code.": found.database and not found.migrated,
        "The store cannot be written and read.": not found.store,
    }
    no_worker = found.migrated and not found.workers
    problems = [said for said, is_so in faults.items() if is_so]
    ready = not problems and not (worker == "required" and not found.workers)
    response.status_code = 200 if ready else 503
    return Readiness(
        ready=ready,
        database=found.database,
        migrated=found.migrated,
        store=found.store,
        workers=found.workers,
        problems=[*problems, *(["No worker was seen lately: work waits."] * no_worker)],
    )
