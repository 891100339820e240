"""Which embeddings are exported: a dataset's rows, in the manifest's order, beside one model's features."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from sqlalchemy.orm import Session

from service.core.errors import InvalidRequest
from service.datasets.manifest import Manifest, read_manifest
from service.datasets.names import Split
from service.datasets.service import sealed
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.model import StoreKey
from service.embeddings.precision import extractor_ids
from service.embeddings.protocol import EmbeddingStore, Rows
from service.models import repository as models
from service.rankings.planner import split_to_score
from zoo.catalog import ModelCard

ROWS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Selection:
    """Every row of it has an embedding."""

    name: str  # of the file that it becomes, without a suffix
    manifest: Manifest
    key: StoreKey
    store: EmbeddingStore

    def batches(self) -> Iterator[tuple[Any, Rows]]:
        """Rows of the manifest (a pyarrow table) with their features, a few thousand at a time."""
        for start in range(0, len(self.manifest), ROWS_AT_ONCE):
            part = self.manifest.table.slice(start, ROWS_AT_ONCE)
            yield part, self.store.get(self.key, part["content_hash"].to_pylist())


def select(
    session: Session,
    project_id: str,
    /,
    *,
    dataset: str,
    model: str,
    split: Split | None,
    manifest_root: Path,
    store: EmbeddingStore,
) -> Selection:
    """What to export.

    Raises:
        Conflict: The dataset is still being checked, or was refused.
        InvalidRequest: The dataset has no such split.
        EmbeddingsMissing: Some of the images have not been embedded by the model.
    """
    row = sealed(session, project_id, dataset)
    whole = read_manifest(manifest_root / project_id / f"{row.id}.parquet")
    if split is not None and split not in whole.splits:
        raise InvalidRequest(f"'{row.name}' has no {split} split; it has {', '.join(whole.splits)}.")
    found = models.get(session, project_id, model)
    if found.weights_sha256 is None:
        raise EmbeddingsMissing(f"'{found.name}' has embedded nothing yet; {_embed(row.name, found.name, whole, {})}.")
    (ident,) = extractor_ids(session, project_id, [(ModelCard.from_json(found.card), found.weights_sha256)])
    session.close()  # the store asks by itself: with two connections a thread, threads would wait for each other
    chosen = Selection(
        name=f"{row.name}-{found.name}",
        manifest=whole if split is None else whole.of_split(split),
        key=StoreKey(project_id, ident),
        store=store,
    )
    missing = _missing(chosen)
    if any(missing.values()):
        listed = ", ".join(f"{n} of {len(whole.of_split(part))} in {part}" for part, n in missing.items() if n)
        raise EmbeddingsMissing(
            f"{sum(missing.values())} of {len(chosen.manifest)} images of '{row.name}' have no embedding by "
            f"'{found.name}' ({listed}); {_embed(row.name, found.name, whole, missing)}."
        )
    return chosen


def _missing(chosen: Selection) -> dict[Split, int]:
    """How many images of each split have no embedding."""
    lacking = set(chosen.store.missing(chosen.key, chosen.manifest.table["content_hash"].to_pylist()))
    return {
        split: sum(value in lacking for value in chosen.manifest.of_split(split).table["content_hash"].to_pylist())
        for split in chosen.manifest.splits
    }


def _embed(dataset: str, model: str, manifest: Manifest, missing: Mapping[Split, int]) -> str:
    """What to do about it. A ranking embeds the split that it scores, and an inspection all of them."""
    ranked = split_to_score(manifest.splits)
    advice = f"`zooscout datasets inspect {quote(dataset)} --model {quote(model)}` embeds every split"
    if all(split == ranked for split, n in missing.items() if n):
        advice = f"`zooscout rank {quote(dataset)} --models {quote(model)}` embeds the {ranked} split"
    complete = next((split for split, n in missing.items() if not n), None)
    return f"{advice}, or ask for split={complete} alone (--split {complete})" if complete else advice
