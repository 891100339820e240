"""Target datasets."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from sqlalchemy.orm import Session

from service.api.bodies import received
from service.api.deps import App, AppDep, ProjectDep, ReaderDep
from service.api.etags import MatchDep
from service.api.once import Made, Once, OnceDep
from service.api.problems import status_of
from service.api.quotas import check_tasks, check_uploads
from service.core.pagination import MAX_LIMIT
from service.datasets import service as datasets
from service.datasets.admission import admit_archive
from service.datasets.limits import Limits
from service.datasets.schemas import DatasetPage, DatasetView, VersionCreate
from service.datasets.text_tables import TextColumns, admit_texts
from service.datasets.uploads import Upload
from service.inspections import service as inspections
from service.rankings import service as rankings

router = APIRouter(tags=["datasets"])
MAX_CHANGES_BYTES = 64 << 20

_KINDS = ("application/zip", "application/x-tar", "application/gzip", "application/octet-stream", "text/csv")
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "zip or tar(.gz) of class folders, of a CSV manifest with images, of Parquet; or Parquet; "
        "or a CSV of texts",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _KINDS},
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
    app: AppDep,
    project: ProjectDep,
    once: OnceDep,
    name: Annotated[str, Query(min_length=1, max_length=200)] = "dataset",
    text_column: Annotated[
        str | None, Query(min_length=1, max_length=200, description="the body is a CSV or Parquet file of texts")
    ] = None,
    label_column: Annotated[
        str | None, Query(min_length=1, max_length=200, description="with text_column; `label` if not given")
    ] = None,
) -> DatasetView:
    """Streams the raw body to disk and looks at the archive's structure; a worker then checks every image.

    With `text_column` the body is a table of texts, one a row, and the dataset's modality is `text`."""
    upload = await received(request, app.settings)
    return await run_in_threadpool(
        _accept, app, project, once, upload, name, TextColumns.asked(text_column, label_column)
    )


def _accept(app: App, project: str, once: Once, upload: Upload, name: str, texts: TextColumns | None) -> DatasetView:
    keep = False

    def act(session: Session) -> Made[DatasetView]:
        nonlocal keep
        accepted = datasets.accept(
            session,
            project,
            upload.path,
            name=name,
            source_digest=upload.sha256,
            delete_source=True,
            source_bytes=upload.size,
            source_images=n_images or 0,
            texts=None if texts is None else texts.to_json(),
        )
        made = _made(app, session, project, accepted)
        keep = not accepted.already_known  # a lost commit may have been one
        return made

    try:
        once.look_back(upload.sha256)
        limits = Limits(**app.settings.uploads.model_dump())
        if texts is None:
            n_images = admit_archive(upload.path, limits).images
        else:
            n_images = admit_texts(upload.path, texts, limits)
        return once.do(upload.sha256, act)
    finally:
        if not keep:
            upload.path.unlink(missing_ok=True)


def _made(app: App, session: Session, project: str, accepted: datasets.Accepted) -> Made[DatasetView]:
    if not accepted.already_known:
        check_uploads(session, project, app.settings.quotas)
        check_tasks(session, project, app.settings.quotas)
    view = datasets.show(session, project, accepted.row.id)
    return Made(view, 200 if accepted.already_known else 202, f"/v1/datasets/{view.id}")


_VERSION_BODY = {
    "requestBody": {
        "required": True,
        "description": "images to add, as for POST /v1/datasets; or JSON that says what to remove, relabel or add",
        "content": {
            "application/json": {"schema": VersionCreate.model_json_schema()},
            **_BODY["requestBody"]["content"],
        },
    }
}


@router.post(
    "/datasets/{dataset}/versions",
    status_code=202,
    summary="Make a dataset from a sealed one: add, remove or relabel images",
    openapi_extra=_VERSION_BODY,
    responses={200: {"model": DatasetView, "description": "The same changes were made before: that version"}},
)
async def make_version(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    once: OnceDep,
    dataset: str,
    name: Annotated[str | None, Query(min_length=1, max_length=200, description="with an archive as the body")] = None,
) -> DatasetView:
    """An archive adds its images under their labels and splits. A JSON body removes and relabels images, named by path
    or content hash, and adds those of another sealed dataset. Nothing of the parent is uploaded, decoded or embedded
    again; a worker makes the version."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    as_json = kind == "application/json"
    upload = await received(request, app.settings, max_bytes=MAX_CHANGES_BYTES if as_json else None)
    return await run_in_threadpool(_accept_version, app, project, once, dataset, upload, name, as_json=as_json)


def _accept_version(
    app: App, project: str, once: Once, dataset: str, upload: Upload, name: str | None, *, as_json: bool
) -> DatasetView:
    keep = False
    try:
        once.look_back(upload.sha256)
        with app.database.read() as session:
            parent = datasets.sealed(session, project, dataset)
        body = _changes(upload.path) if as_json else None
        add, source_images = None, 0
        if body is None:
            datasets.require_images_to_add(parent)
            limits = Limits(**app.settings.uploads.model_dump())
            source_images = admit_archive(upload.path, limits, min_classes=1).images or 0
        else:
            if body.add is not None:
                with app.database.read() as session:
                    add = datasets.sealed(session, project, body.add).id
            from service.datasets import versions
            from service.datasets.manifest import read_manifest  # pyarrow takes longer to load than the API to start

            manifest = read_manifest(app.settings.manifest_root / project / f"{parent.id}.parquet")
            versions.check(manifest, versions.Changes(tuple(body.remove), body.relabel), adds=add is not None)
        source = datasets.VersionSource(
            archive=None if as_json else upload.path,
            changes=upload.path if as_json else None,
            add=add,
            delete=upload.path,
        )
        digest = datasets.version_digest(
            parent.id, archive_sha256=None if as_json else upload.sha256, changes=body, add=add
        )

        def act(session: Session) -> Made[DatasetView]:
            nonlocal keep
            wanted = body.name if body else name
            accepted = datasets.accept_version(
                session,
                project,
                parent.id,
                source,
                name=wanted,
                digest=digest,
                source_bytes=upload.size,
                source_images=source_images,
            )
            made = _made(app, session, project, accepted)
            keep = not accepted.already_known  # a lost commit may have been one
            return made

        return once.do(upload.sha256, act)
    finally:
        if not keep:
            upload.path.unlink(missing_ok=True)


def _changes(path: Path) -> VersionCreate:
    try:
        return VersionCreate.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_input=False, include_url=False)) from error


def with_status(view: DatasetView, /) -> DatasetView:
    """A refusal that a worker recorded, as the problem that the upload would have been answered with."""
    if view.problem is None or "status" in view.problem:
        return view
    return view.model_copy(update={"problem": {**view.problem, "status": status_of(str(view.problem.get("type")))}})


@router.get("/datasets", summary="List datasets, newest first", response_model=DatasetPage)
def list_datasets(
    reader: ReaderDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    cursor: Annotated[str | None, Query(max_length=2000)] = None,
) -> Response:
    def make(session: Session, project: str) -> DatasetPage:
        page = datasets.list_datasets(session, project, limit=limit, cursor=cursor)
        return DatasetPage(items=[with_status(view) for view in page.items], next_cursor=page.next_cursor)

    return reader.show(make)


@router.get(
    "/datasets/{dataset}",
    summary="State, report and fingerprint of a dataset, by id or name",
    response_model=DatasetView,
)
def show_dataset(reader: ReaderDep, dataset: str) -> Response:
    return reader.show(lambda session, project: _shown(session, project, dataset))


def _shown(session: Session, project: str, dataset: str) -> DatasetView:
    view = with_status(datasets.show(session, project, dataset))
    return view.model_copy(update={"inspections": inspections.of_dataset(session, project, view.id)})


@router.delete("/datasets/{dataset}", status_code=204, summary="Remove a dataset with its rankings and scores")
def remove_dataset(
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    match: MatchDep,
    purge: Annotated[
        bool, Query(description="remove its images and embeddings now, not at the next collection")
    ] = False,
) -> None:
    with app.database.write() as session:
        match.check(session, lambda session: _shown(session, project, dataset))
        rankings.remove_dataset(session, project, dataset, purge=purge)
