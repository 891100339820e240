"""Embeds again what damaged segments held, and nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from service.datasets import repository as datasets
from service.datasets.manifest import read_manifest
from service.datasets.names import Split
from service.embeddings import repository as embeddings
from service.embeddings.model import SegmentInfo, StoreKey
from service.embeddings.precision import extractor_ids
from service.embeddings.protocol import EmbeddingStore, Metric, Neighbours, Rows
from service.embeddings.upkeep import intact_hashes
from service.inspections import repository as inspections
from service.models import repository as models
from service.rankings import repository as rankings
from service.rankings.results import Failed, Scored
from service.worker.context import WorkerContext
from zoo.catalog import ModelCard

Report = Callable[[str, int, int], None]  # stage, done, to do


@dataclass(frozen=True, slots=True)
class Lost:
    """What one damaged segment held that is still missing and still needed."""

    segment: SegmentInfo
    hashes: tuple[bytes, ...]


def models_of(context: WorkerContext, project_id: str, /) -> dict[str, ModelCard]:
    """The registered models by the extractor under which each embeds in the project."""
    with context.database.read() as session:
        pinned = [(ModelCard.from_json(card), sha) for card, sha in models.pinned_cards(session, project_id)]
        return dict(zip(extractor_ids(session, project_id, pinned), (card for card, _ in pinned), strict=True))


def still_lost(context: WorkerContext, project_id: str, /) -> list[Lost]:
    """Every damaged segment whose images are there and whose rows are not; those of earlier checks as well."""
    with context.database.read() as session:
        damaged = [info for info in embeddings.all_segments(session, project_id) if info.state == "damaged"]
    found = []
    for info in damaged:
        held = intact_hashes(context.store, info)
        wanted = _ranked_images(context, info.key) if held is None else held
        missing = context.store.missing(info.key, wanted)
        hashes = tuple(value for value in missing if context.blobs.exists(project_id, value.hex()))
        if hashes:
            found.append(Lost(info, hashes))
    return found


def mend(context: WorkerContext, project_id: str, lost: Sequence[Lost], report: Report, /) -> dict[str, str]:
    """Embeds what was lost, one extractor after the other. Returns why some could not, by extractor."""
    from service.compute.group import compute_group
    from service.worker.workplace import workplace

    cards = models_of(context, project_id)
    failed: dict[str, str] = {}
    for extractor in dict.fromkeys(item.segment.key.extractor_id for item in lost):
        card = cards.get(extractor)
        if card is None:
            failed[extractor] = "no registered model embeds under this id any more"
            continue
        hashes = sorted({v for item in lost if item.segment.key.extractor_id == extractor for v in item.hashes})
        outcomes: list[Scored | Failed] = []
        at = workplace(context, project_id)
        compute_group(
            {card.name: card},
            hashes,
            np.zeros(len(hashes), dtype=np.int64),
            None,
            lacking=lambda _extractor: (),
            at=replace(at, store=_Lacking(at.store, frozenset(hashes))),
            report=lambda state, name=card.name: report(name, *_counts(state)),  # type: ignore[misc]
            cancelled=lambda: False,
            done=lambda _model, outcome, into=outcomes: into.append(outcome),  # type: ignore[misc]
        )
        for outcome in outcomes:
            if isinstance(outcome, Failed):
                failed[extractor] = outcome.reason
            elif outcome.extractor_id != extractor:
                failed[extractor] = f"{card.name} embeds as {outcome.extractor_id[:12]} now"
    return failed


@dataclass(frozen=True, slots=True)
class _Lacking:
    """The store as if it lacked these images, so that both of an extractor's outputs are computed again.

    What it does hold stays as it is: `put` keeps the rows that are there.
    """

    store: EmbeddingStore
    images: frozenset[bytes]

    def missing(self, _key: StoreKey, hashes: Sequence[bytes], /) -> list[bytes]:
        return [value for value in dict.fromkeys(hashes) if value in self.images]

    def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
        self.store.put(key, hashes, rows)

    def get(self, key: StoreKey, hashes: Sequence[bytes], /) -> Rows:
        return self.store.get(key, hashes)

    def search(self, key: StoreKey, hashes: Sequence[bytes], queries: Rows, k: int, /, *, metric: Metric) -> Neighbours:
        return self.store.search(key, hashes, queries, k, metric=metric)


def _ranked_images(context: WorkerContext, key: StoreKey) -> list[bytes]:
    """Where the list of a segment's images is lost as well: all that its extractor has been asked about."""
    with context.database.read() as session:
        pairs = rankings.embedded_by(session, key.project_id, key.extractor_id)
        inspected = inspections.datasets_embedded_by(session, key.project_id, key.extractor_id)
        sealed = {ident for ident, state in datasets.states(session, key.project_id).items() if state == "sealed"}
    found: set[bytes] = set()
    for dataset_id, split in [*pairs, *((ident, None) for ident in inspected)]:
        if dataset_id in sealed:
            manifest = read_manifest(context.manifest_path(key.project_id, dataset_id))
            part = manifest if split is None else manifest.of_split(cast(Split, split))
            found.update(row.tobytes() for row in part.content_hashes)
    return sorted(found)


def _counts(state: object) -> tuple[int, int]:
    numbers = cast(dict[str, int], state)
    return numbers.get("images_embedded", 0), numbers.get("images_to_embed", 0)
