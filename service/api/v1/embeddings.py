"""Embeddings to take away."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from service.api.deps import AppDep, ProjectDep
from service.datasets.names import Split
from service.exports.names import MEDIA_TYPES, Format

router = APIRouter(tags=["embeddings"])


@router.get(
    "/datasets/{dataset}/embeddings",
    summary="Export a dataset's embeddings by one model",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {} for kind in MEDIA_TYPES.values()}, "description": "The file, streamed"}},
)
def export_embeddings(
    app: AppDep,
    project: ProjectDep,
    dataset: str,
    model: Annotated[str, Query(max_length=300, description="id or name")],
    fmt: Annotated[Format, Query(alias="format")] = "parquet",
    split: Annotated[Split | None, Query(description="one split alone; every split if unset")] = None,
) -> StreamingResponse:
    """Content hash, path, label, split and features of every image, in the order of the content hashes."""
    from service.embeddings.opening import open_store  # loads FAISS
    from service.exports.formats import stream  # loads pyarrow
    from service.exports.selection import select

    store = open_store(app.settings, app.database)
    with app.database.read() as session:
        selection = select(
            session,
            project,
            dataset=dataset,
            model=model,
            split=split,
            manifest_root=app.settings.manifest_root,
            store=store,
        )
    name = quote(f"{selection.name}.{fmt}", safe="")
    return StreamingResponse(
        stream(selection, fmt),
        media_type=MEDIA_TYPES[fmt],
        headers={"Content-Disposition": f"attachment; filename*=UTF-8''{name}"},
    )
