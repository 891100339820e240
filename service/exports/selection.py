"""Which embeddings are exported: a dataset's rows, in the manifest's order, beside one model's features."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from sqlalchemy.orm import Session

from service.core.errors import InvalidRequest
from service.datasets import repository as datasets
from service.datasets.errors import NotSealed
from service.datasets.manifest import Manifest, read_manifest
from service.datasets.names import Split
from service.embeddings.errors import EmbeddingsMissing
from service.embeddings.precision import extractor_ids
from service.embeddings.protocol import EmbeddingStore, Rows, StoreKey
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
        NotSealed: The dataset is still being checked, or was refused.
        InvalidRequest: The dataset has no such split.
        EmbeddingsMissing: Some of the images have not been embedded by the model.
    """
    row = datasets.get(session, project_id, dataset)
    if row.state != "sealed":
        raise NotSealed(f"'{row.name}' is {row.state}; embeddings belong to sealed datasets.")
    whole = read_manifest(manifest_root / project_id / f"{row.id}.parquet")
    if split is not None and split not in whole.splits:
        raise InvalidRequest(f"'{row.name}' has no {split} split; it has {', '.join(whole.splits)}.")
    found = models.get(session, project_id, model)
    rank_it = f"`zooscout rank {quote(row.name)} --models {quote(found.name)}`"
    if found.weights_sha256 is None:
        raise EmbeddingsMissing(f"'{found.name}' has embedded nothing yet: {rank_it} does.")
    (ident,) = extractor_ids(session, project_id, [(ModelCard.from_json(found.card), found.weights_sha256)])
    key = StoreKey(project_id, ident)
    manifest = whole if split is None else whole.of_split(split)
    _refuse_missing(manifest, key, store, dataset=row.name, model=found.name, rank_it=rank_it, whole=whole)
    return Selection(f"{row.name}-{found.name}", manifest, key, store)


def _refuse_missing(
    manifest: Manifest,
    key: StoreKey,
    store: EmbeddingStore,
    /,
    *,
    dataset: str,
    model: str,
    rank_it: str,
    whole: Manifest,
) -> None:
    lacking = set(store.missing(key, manifest.table["content_hash"].to_pylist()))
    if not lacking:
        return
    counts = {}
    for split in manifest.splits:
        hashes = manifest.of_split(split).table["content_hash"].to_pylist()
        counts[split] = (sum(value in lacking for value in hashes), len(hashes))
    total = sum(missing for missing, _ in counts.values())
    listed = ", ".join(f"{missing} of {n} in {split}" for split, (missing, n) in counts.items() if missing)
    ranked = split_to_score(whole.splits)
    advice = [f"{rank_it} embeds the {ranked} split"] if counts.get(ranked, (0, 0))[0] else []
    complete = [split for split, (missing, _) in counts.items() if not missing]
    if complete:
        advice.append(f"what is embedded is exported with split={complete[0]} (--split {complete[0]})")
    elif not advice:
        advice.append(
            f"rankings embed the {ranked} split alone: export that one with split={ranked} (--split {ranked})"
        )
    what = f"{total} of {len(manifest)} images of '{dataset}' have no embedding by '{model}' ({listed})"
    raise EmbeddingsMissing(f"{what}: {'; '.join(advice)}.")
