"""Pages of datasets: what was uploaded, what the checks found, what was measured on it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from service.api.deps import AppDep, ProjectDep
from service.api.quotas import check_tasks
from service.blobs.store import BlobStore
from service.core.errors import NotFound, ServiceError
from service.core.settings import Settings
from service.datasets import reference as references
from service.datasets import service as datasets
from service.datasets.samples import ClassSample, samples, thumbnail_path
from service.datasets.schemas import DatasetView
from service.inspections import service as inspections
from service.models import service as catalog
from service.models.schemas import ModelFilter
from service.outcomes import service as outcomes
from service.outcomes.schemas import OutcomeCreate
from service.rankings import service as rankings
from service.web.contexts import DatasetPage, DatasetsPage, MapPage, NeighboursPage
from service.web.figures import map_figure
from service.web.forms import FormDep, judged
from service.web.rendering import render
from zoo.catalog import Modality

router = APIRouter()
SHOWN = 20
LISTED = 50
CLASSES, EACH, EACH_ALONE = 12, 6, 60
MODELS_NAMED = 200
NEIGHBOURS = 8
TEXT_SHOWN = 280  # characters
# What browsers show by themselves; the rest is offered as a file. First bytes, for a name says nothing.
_SHOWN_TYPES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"BM": "image/bmp"}
_STILL = "default-src 'none'; sandbox"


@router.get("/datasets")
def list_datasets(
    request: Request, app: AppDep, project: ProjectDep, cursor: Annotated[str | None, Query(max_length=2000)] = None
) -> HTMLResponse:
    with app.database.read() as session:
        found = datasets.list_datasets(session, project, limit=LISTED, cursor=cursor)
        named = references.find(session, project)
        page = DatasetsPage(
            datasets=found.items,
            following=found.next_cursor,
            reference=None if named is None else references.show(session, project),
        )
    return render(request, "datasets.html", page)


@router.get("/datasets/{dataset}")
def show_dataset(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    only: Annotated[str | None, Query(alias="class", max_length=1000)] = None,
) -> HTMLResponse:
    with app.database.read() as session:
        view = datasets.show(session, project, dataset)
        found = inspections.latest(session, project, view.id)
        ranked = rankings.list_rankings(session, project, limit=SHOWN, dataset_id=view.id).items
        shown = _samples(app.settings, project, view.id, only) if view.state == "sealed" else []
        page = DatasetPage(
            dataset=view,
            samples=shown,
            texts=_texts(
                app.settings,
                project,
                view,
                [
                    *(sample.hash for group in shown for sample in group.images),
                    *(value for each in found for value in _hashes_in(each.result)),
                ],
            ),
            only=only,
            versions=datasets.versions_of(session, view.id, limit=SHOWN),
            inspections=found,
            shown=SHOWN,
            rankings=ranked,
            outcomes=outcomes.list_outcomes(session, project, limit=SHOWN, dataset=view.id).items,
            models=model_names(session, project, view.modality),
            working=view.state == "checking" or any(item.finished_at is None for item in found),
        )
    return render(request, "dataset.html", page)


def model_names(session: Session, project: str, modality: Modality, /) -> list[str]:
    """Of models that read what the dataset holds."""
    found = catalog.list_models(session, project, ModelFilter(modality=modality), limit=MODELS_NAMED)
    return [model.name for model in found.items]


def _samples(settings: Settings, project: str, dataset_id: str, only: str | None) -> list[ClassSample]:
    path = _manifest(settings, project, dataset_id)
    each, classes = (EACH, CLASSES) if only is None else (EACH_ALONE, None)
    return samples(path, each=each, only=only, classes=classes) if path.is_file() else []


def _hashes_in(result: object, /) -> Iterator[str]:
    """Of what the page shows of an inspection."""
    if isinstance(result, dict):
        if isinstance(result.get("hash"), str):
            yield result["hash"]
        for value in result.values():
            yield from _hashes_in(value)
    elif isinstance(result, list):
        for value in result[:SHOWN]:
            yield from _hashes_in(value)


def _texts(settings: Settings, project: str, view: DatasetView, hashes: Iterable[str], /) -> dict[str, str]:
    """How each text begins, by content hash; nothing of a dataset of images."""
    if view.modality != "text":
        return {}
    store = BlobStore(settings.blob_root)
    found: dict[str, str] = {}
    for value in dict.fromkeys(hashes):
        try:
            with store.path(project, value).open("rb") as file:
                begins = file.read(4 * TEXT_SHOWN).decode("utf-8", "ignore")
        except (OSError, ValueError):
            continue  # it went with its dataset, or is no hash
        found[value] = begins if len(begins) <= TEXT_SHOWN else f"{begins[:TEXT_SHOWN].rstrip()} …"
    return found


def _manifest(settings: Settings, project: str, dataset_id: str) -> Path:
    return settings.manifest_root / project / f"{dataset_id}.parquet"


@router.get("/datasets/{dataset}/image")
def show_image(
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    content_hash: Annotated[str, Query(alias="hash", pattern="^[0-9a-f]{64}$")],
    small: bool = False,
) -> FileResponse:
    """The bytes as they were uploaded, of which nothing may run and no type is guessed, or a small copy."""
    with app.database.read() as session:
        datasets.sealed(session, project, dataset)
    headers = {"Content-Security-Policy": _STILL, "Cache-Control": "private, max-age=86400, immutable"}
    copy = thumbnail_path(app.settings.thumbnail_root, project, content_hash)
    if small and copy.is_file():
        return FileResponse(copy, media_type="image/jpeg", headers=headers)
    path = BlobStore(app.settings.blob_root).path(project, content_hash)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise NotFound("image", content_hash) from None
    kind = next((kind for magic, kind in _SHOWN_TYPES.items() if head.startswith(magic)), "application/octet-stream")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind = "image/webp"
    return FileResponse(path, media_type=kind, headers=headers)


@router.get("/datasets/{dataset}/neighbours")
def show_neighbours(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    image: Annotated[str, Query(max_length=1100)],
    model: Annotated[list[str] | None, Query(max_length=2)] = None,
) -> HTMLResponse:
    """The images nearest to one, under one model or two beside each other."""
    with app.database.read() as session:
        view = datasets.show(session, project, dataset)
        names = model_names(session, project, view.modality)
    asked = [name for name in model or [] if name][:2]
    found, problems = [], []
    if asked:
        from service.embeddings.opening import open_store  # loads FAISS
        from service.inspections.neighbours import neighbours

        store = open_store(app.settings, app.database)
        for name in asked:
            try:
                with app.database.read() as session:
                    near = neighbours(
                        session, project, dataset=view.id, model=name, image=image, k=NEIGHBOURS,
                        manifest_root=app.settings.manifest_root, store=store,
                    )  # fmt: skip
                found.append(near)
            except ServiceError as error:
                problems.append(str(error))
    hashes = [image, *(each.hash for near in found for each in near.neighbours)]
    texts = _texts(app.settings, project, view, hashes)
    page = NeighboursPage(
        dataset=view, image=image, texts=texts, models=names, asked=asked, found=found, problems=problems
    )
    return render(request, "neighbours.html", page)


@router.get("/datasets/{dataset}/map")
def show_map(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    model: Annotated[str, Query(max_length=300)] = "",
) -> HTMLResponse:
    with app.database.read() as session:
        view = datasets.show(session, project, dataset)
        names = model_names(session, project, view.modality)
    found, problem = None, None
    if model:
        from service.embeddings.opening import open_store  # loads FAISS
        from service.inspections.mapping import dataset_map

        store = open_store(app.settings, app.database)
        try:
            with app.database.read() as session:
                found = dataset_map(
                    session,
                    project,
                    dataset=view.id,
                    model=model,
                    manifest_root=app.settings.manifest_root,
                    store=store,
                )
        except ServiceError as error:
            problem = str(error)
    page = MapPage(
        dataset=view,
        models=names,
        asked=model,
        found=found,
        figure=None if found is None else map_figure(found),
        problem=problem,
    )
    return render(request, "map.html", page)


@router.post("/datasets/{dataset}/inspections")
def request_inspection(app: AppDep, project: ProjectDep, dataset: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        view = datasets.show(session, project, dataset)
        inspections.request(session, project, view.id, form.one("model") or "")
        check_tasks(session, project, app.settings.quotas)
    return RedirectResponse(f"/datasets/{view.id}#inspections", status_code=303)


@router.post("/datasets/{dataset}/outcomes")
def record_outcome(app: AppDep, project: ProjectDep, dataset: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        view = datasets.show(session, project, dataset)
        given = {"dataset": view.id, **form.filled("model", "accuracy", "n_test", "recipe", "source")}
        outcomes.record(session, project, [judged(OutcomeCreate, given)])
    return RedirectResponse(f"/datasets/{view.id}#outcomes", status_code=303)


@router.post("/datasets/{dataset}/reference")
def name_reference(app: AppDep, project: ProjectDep, dataset: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        named = references.name(session, project, dataset)
    return RedirectResponse(f"/datasets/{named.dataset}", status_code=303)


@router.post("/datasets/{dataset}/remove")
def remove_dataset(app: AppDep, project: ProjectDep, dataset: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        rankings.remove_dataset(session, project, dataset)
    return RedirectResponse("/datasets", status_code=303)
