"""One group of models on one dataset: load, embed what is missing, score, one outcome a model."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from service.compute.device import device_name
from service.compute.embedding import ReadBlob, embed_group
from service.compute.reference import ReferenceSet, WarmMoments
from service.compute.scoring import score_model
from service.core.errors import Cancelled
from service.embeddings.protocol import EmbeddingStore
from service.rankings.results import Failed, Scored
from zoo.catalog import ModelCard
from zoo.errors import ZooError
from zoo.extract import Extractor, load


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where and how a worker computes."""

    project_id: str
    store: EmbeddingStore
    read_blob: ReadBlob
    weights_cache: Path
    device: torch.device
    batch_size: int
    threads: int
    segment_rows: int
    warm: WarmMoments


def compute_group(
    cards: Mapping[str, ModelCard],
    hashes: Sequence[bytes],
    labels: npt.NDArray[np.int64],
    reference: ReferenceSet | None,
    /,
    *,
    lacking: Callable[[str], Sequence[str]],
    at: Workplace,
    report: Callable[[Mapping[str, Any]], None],
    cancelled: Callable[[], bool],
    done: Callable[[str, Scored | Failed], None],
) -> None:
    """Calls `done` once for every model; what goes wrong with one never reaches the others.

    `lacking` names the estimators without a score yet, by extractor. The reference set is embedded in the same pass.
    """
    state: dict[str, Any] = {"stage": "loading weights", "images_embedded": 0, "images_to_embed": 0}
    report(state)
    extractors: dict[str, Extractor] = {}
    for ident, card in cards.items():
        if cancelled():
            raise Cancelled("The ranking was told to stop.")
        try:
            extractors[ident] = load(card, device=at.device, cache_dir=at.weights_cache)
        except ZooError as error:
            done(ident, Failed(f"{type(error).__name__}: {error}"))
    if not extractors:
        return

    meter = _Meter(report)
    embedded = embed_group(
        extractors,
        hashes if reference is None else [*hashes, *reference.hashes],
        project_id=at.project_id,
        store=at.store,
        read_blob=at.read_blob,
        batch_size=at.batch_size,
        threads=at.threads,
        segment_rows=at.segment_rows,
        progress=meter.progress,
        cancelled=cancelled,
    )
    meter.stage("scoring")
    for ident, extractor in extractors.items():
        if cancelled():
            raise Cancelled("The ranking was told to stop.")
        if ident in embedded.failed:
            done(ident, Failed(embedded.failed[ident]))
            continue
        scores = score_model(
            lacking(extractor.extractor_id),
            hashes,
            labels,
            project_id=at.project_id,
            extractor_id=extractor.extractor_id,
            has_source_probs=extractor.num_classes > 0,
            store=at.store,
            reference=reference,
            warm=at.warm,
        )
        done(
            ident,
            Scored(
                card=extractor.card,
                params=extractor.params,
                extractor_id=extractor.extractor_id,
                scores=tuple(scores),
                device=device_name(at.device),
                images_per_second=embedded.images_per_second.get(ident),
                identity={
                    "architecture": extractor.card.architecture,
                    "weights_sha256": extractor.weights_sha256,
                    "precision": extractor.precision,
                },
            ),
        )


class _Meter:
    """Turns counts into what a watcher wants to read: images, rate, stage."""

    def __init__(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        self._report = report
        self._started = time.perf_counter()
        self._state: dict[str, Any] = {"stage": "embedding"}

    def progress(self, embedded: int, total: int) -> None:
        seconds = time.perf_counter() - self._started
        rate = embedded / seconds if embedded and seconds > 0 else None
        self._state |= {"images_embedded": embedded, "images_to_embed": total, "images_per_second": rate}
        self._report(self._state)

    def stage(self, name: str) -> None:
        self._state["stage"] = name
        self._report(self._state)
