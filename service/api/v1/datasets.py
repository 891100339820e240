"""Target datasets."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from service.api.deps import App, AppDep, ProjectDep
from service.api.problems import status_of
from service.core.pagination import MAX_LIMIT
from service.datasets import service as datasets
from service.datasets.inspection import inspect_archive
from service.datasets.limits import Limits
from service.datasets.schemas import DatasetPage, DatasetView
from service.datasets.uploads import Upload, receive
from service.rankings import service as rankings

router = APIRouter(tags=["datasets"])

_BODY = {
    "requestBody": {
        "required": True,
        "description": "zip or tar(.gz) of class folders, of a CSV manifest with images, of Parquet; or Parquet",
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("application/zip", "application/x-tar", "application/gzip", "application/octet-stream")
        },
    }
}


@router.post(
    "/datasets",
    status_code=202,
    summary="Upload a dataset",
    openapi_extra=_BODY,
    responses={200: {"model": DatasetView, "description": "The same archive was uploaded before: its dataset"}},
)
async def upload_dataset(
    request: Request,
    response: Response,
    app: AppDep,
    project: ProjectDep,
    name: Annotated[str, Query(min_length=1, max_length=200)] = "dataset",
) -> DatasetView:
    """Streams the raw body to disk and looks at the archive's structure; a worker then checks every image."""
    upload = await receive(request.stream(), app.settings.upload_root, max_bytes=app.settings.uploads.max_upload_bytes)
    view, known = await run_in_threadpool(_accept, app, project, upload, name)
    response.status_code = 200 if known else 202
    response.headers["Location"] = f"/v1/datasets/{view.id}"
    return view


def _accept(app: App, project: str, upload: Upload, name: str) -> tuple[DatasetView, bool]:
    keep = False
    try:
        inspect_archive(upload.path, Limits(**app.settings.uploads.model_dump()))
        with app.database.write() as session:
            accepted = datasets.accept(
                session, project, upload.path, name=name, source_digest=upload.sha256, delete_source=True
            )
            keep = not accepted.already_known
            return datasets.show(session, project, accepted.row.id), accepted.already_known
    finally:
        if not keep:
            upload.path.unlink(missing_ok=True)


def with_status(view: DatasetView, /) -> DatasetView:
    """A refusal that a worker recorded, as the problem that the upload would have been answered with."""
    if view.problem is None or "status" in view.problem:
        return view
    return view.model_copy(update={"problem": {**view.problem, "status": status_of(str(view.problem.get("type")))}})


@router.get("/datasets", summary="List datasets, newest first")
def list_datasets(
    app: AppDep,
    project: ProjectDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> DatasetPage:
    with app.database.read() as session:
        page = datasets.list_datasets(session, project, limit=limit, cursor=cursor)
    return DatasetPage(items=[with_status(view) for view in page.items], next_cursor=page.next_cursor)


@router.get("/datasets/{dataset}", summary="State, report and fingerprint of a dataset, by id or name")
def show_dataset(app: AppDep, project: ProjectDep, dataset: str) -> DatasetView:
    with app.database.read() as session:
        return with_status(datasets.show(session, project, dataset))


@router.delete("/datasets/{dataset}", status_code=204, summary="Remove a dataset with its rankings and scores")
def remove_dataset(
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    purge: Annotated[
        bool, Query(description="remove its images and embeddings now, not at the next collection")
    ] = False,
) -> None:
    with app.database.write() as session:
        rankings.remove_dataset(session, project, dataset, purge=purge)
