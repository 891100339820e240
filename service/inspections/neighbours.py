"""The images nearest to one image of a dataset, under a model that has embedded them."""

from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from service.core.errors import InvalidRequest, NotFound
from service.datasets import service as datasets
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.model import StoreKey
from service.embeddings.precision import extractor_ids
from service.embeddings.protocol import EmbeddingStore
from service.inspections.findings import described
from service.inspections.images import distinct_images
from service.inspections.nearness import Embedded
from service.inspections.schemas import ImageView, NeighboursView, NeighbourView
from service.models import repository as models
from zoo.catalog import ModelCard


def neighbours(
    session: Session,
    project_id: str,
    /,
    *,
    dataset: str,
    model: str,
    image: str,
    k: int,
    manifest_root: Path,
    store: EmbeddingStore,
) -> NeighboursView:
    """The k nearest of the dataset's other images that the model has embedded.

    Raises:
        NotFound: The dataset holds no such image.
        InvalidRequest: The path names several images.
        EmbeddingsMissing: The model has not embedded the image.
    """
    from service.datasets.manifest import read_manifest  # pyarrow takes longer to load than the API to start

    sealed = datasets.sealed(session, project_id, dataset)
    found = models.get(session, project_id, model)
    images = distinct_images(read_manifest(manifest_root / project_id / f"{sealed.id}.parquet"))
    named = list(images.named(image))
    if not named:
        raise NotFound("image", image)
    if len(named) > 1:
        raise InvalidRequest(f"'{image}' names {len(named)} images of the dataset: name one by its content hash.")
    remedy = (
        f"inspect the dataset with POST /v1/datasets/{sealed.id}/inspections or `zooscout datasets inspect "
        f"{sealed.id} --model {found.name}`, which embeds every split"
    )
    if found.weights_sha256 is None:
        raise EmbeddingsMissing(f"Model '{found.name}' has embedded nothing here yet: {remedy}.")
    [ident] = extractor_ids(session, project_id, [(ModelCard.from_json(found.card), found.weights_sha256)])
    session.close()  # the store asks by itself: with two connections a thread, threads would wait for each other
    key = StoreKey(project_id, ident)
    lacking = set(store.missing(key, images.hashes))
    if images.hashes[named[0]] in lacking:
        raise EmbeddingsMissing(f"Model '{found.name}' has not embedded '{image}': {remedy}.")
    there = np.array([n for n, value in enumerate(images.hashes) if value not in lacking], dtype=np.int64)
    asked = np.array(named, dtype=np.int64)
    near = Embedded(store, key, images.hashes, lambda: False).nearest(asked, there, k)
    return NeighboursView(
        dataset_id=sealed.id,
        model=found.name,
        extractor_id=ident,
        image=ImageView(**images.describe(named[0])),
        neighbours=[NeighbourView(**row) for row in described(images, near, 0)],
        searched=len(there),
        images=len(images),
        exact=near.exact,
        index=near.index,
    )
