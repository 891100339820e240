"""A dataset in two dimensions, as a model sees it."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlalchemy.orm import Session

from service.datasets import service as datasets
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.model import StoreKey
from service.embeddings.precision import extractor_ids
from service.embeddings.protocol import EmbeddingStore
from service.inspections.images import distinct_images
from service.inspections.schemas import MapPoint, MapView
from service.models import repository as models
from zoo.catalog import ModelCard

MOST_POINTS = 2000
SPARE, ROUNDS, SEED = 8, 30, 20261121


def dataset_map(
    session: Session, project_id: str, /, *, dataset: str, model: str, manifest_root: Path, store: EmbeddingStore
) -> MapView:
    """The images that the model has embedded, at most 2,000 of them, on the two axes along which they vary most.

    Raises:
        EmbeddingsMissing: The model has embedded fewer than three of them.
    """
    from service.datasets.manifest import read_manifest  # pyarrow takes longer to load than the API to start

    sealed = datasets.sealed(session, project_id, dataset)
    found = models.get(session, project_id, model)
    images = distinct_images(read_manifest(manifest_root / project_id / f"{sealed.id}.parquet"))
    there: list[int] = []
    if found.weights_sha256 is not None:
        [ident] = extractor_ids(session, project_id, [(ModelCard.from_json(found.card), found.weights_sha256)])
        session.close()  # the store asks by itself: with two connections a thread, threads would wait for each other
        key = StoreKey(project_id, ident)
        lacking = set(store.missing(key, images.hashes))
        there = [n for n, value in enumerate(images.hashes) if value not in lacking]
    if len(there) < 3:
        raise EmbeddingsMissing(f"Model '{found.name}' has not embedded '{sealed.name}': rank it on the dataset first.")
    # Content hashes are as good as random, so that every so many of them are a fair sample.
    shown = [there[i * len(there) // MOST_POINTS] for i in range(MOST_POINTS)] if len(there) > MOST_POINTS else there
    places, shares = principal_axes(store.get(key, [images.hashes[n] for n in shown]))
    points = [
        MapPoint(**images.describe(number), x=float(x), y=float(y))
        for number, (x, y) in zip(shown, places, strict=True)
    ]
    return MapView(
        dataset_id=sealed.id, model=found.name, extractor_id=ident, points=points, embedded=len(there), shares=shares
    )


def principal_axes(features: npt.NDArray[np.float32], /) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Coordinates `[N, 2]` on the first two principal axes, and the share of the variance along each.

    By subspace iteration: the axes' signs are such that the farthest image lies on the positive side.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    total = float((centred**2).sum())
    if total == 0:
        return np.zeros((len(features), 2)), (0.0, 0.0)
    width = min(2 + SPARE, *features.shape)
    basis = np.linalg.qr(np.random.default_rng(SEED).standard_normal((features.shape[1], width)))[0]
    for _ in range(ROUNDS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    left, sizes, _ = np.linalg.svd(centred @ basis, full_matrices=False)
    places = np.zeros((len(features), 2))
    places[:, : min(2, width)] = (left * sizes)[:, :2]
    places *= np.where(places[np.abs(places).argmax(0), [0, 1]] < 0, -1, 1)
    shares = [float(size**2) / total for size in sizes[:2]] + [0.0]
    return places, (shares[0], shares[1])
