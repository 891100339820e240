"""Embeds what is missing: every image is decoded once for all models of a group, then fed to each of them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch

from service.compute.batches import LARGEST_ON_CPU
from service.compute.pipeline import Pipeline, ReadBlob
from service.compute.streams import Limits, Stream
from service.core.errors import Cancelled
from service.embeddings.model import Kind, StoreKey
from service.embeddings.protocol import EmbeddingStore, Rows
from service.jobs.fate import Cause
from zoo.extract import Extractor, interruptible


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts are of pairs of a model and an image; the seconds of a stage are summed over its threads."""

    embedded: int
    to_embed: int
    stage_seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Counts:
    """Pairs of a model and an image that were wanted."""

    stored: int = 0  # found in the store
    computed: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.stored + other.stored, self.computed + other.computed)


@dataclass(slots=True)
class Embedded:
    """What happened to each model of a group, by model id."""

    failed: dict[str, str] = field(default_factory=dict)
    causes: dict[str, Cause] = field(default_factory=dict)  # of each that failed
    images_per_second: dict[str, float] = field(default_factory=dict)  # of the forward pass alone
    texts_cut: dict[str, int] = field(default_factory=dict)  # where all texts were looked at
    counted: Counts = field(default_factory=Counts)


def embed_group(
    extractors: Mapping[str, Extractor],
    hashes: Sequence[bytes],
    /,
    *,
    project_id: str,
    store: EmbeddingStore,
    read_blob: ReadBlob,
    batch_size: Callable[[Extractor], int],
    limits: Limits,
    device: torch.device,
    progress: Callable[[Progress], None],
    cancelled: Callable[[], bool],
) -> Embedded:
    """Fills the store for every (model, image) pair that it lacks.

    An image is read and decoded once, and resized once for each preprocessing signature. A model that fails is
    dropped and the others go on.

    Raises:
        Cancelled: `cancelled()` became true; what is in full segments stays.
    """
    streams = []
    for model, extractor in extractors.items():
        lacks = frozenset(store.missing(StoreKey(project_id, extractor.extractor_id), hashes))
        batch = batch_size(extractor) if lacks else 1
        if device.type == "cpu":
            batch = min(batch, LARGEST_ON_CPU)
        streams.append(Stream(model, extractor, lacks, batch=batch))
    distinct = dict.fromkeys(hashes)
    needed = [value for value in distinct if any(value in s.lacks for s in streams)]

    def write(stream: Stream, hashes: list[bytes], features: Rows, probs: Rows | None) -> None:
        # Source probabilities first: an image counts as embedded once its features are stored, so that nothing is
        # missed when the process dies between the two.
        ident = stream.extractor.extractor_id
        if probs is not None:
            store.put(StoreKey(project_id, ident, Kind.SOURCE_PROBS), hashes, probs)
        store.put(StoreKey(project_id, ident), hashes, features)

    pipeline = Pipeline(needed, streams, read_blob=read_blob, write=write, device=device, limits=limits)

    def look() -> None:
        if cancelled():
            raise Cancelled("Embedding was told to stop.")
        total = sum(s.images if s.failed is not None else len(s.lacks) for s in streams)
        progress(Progress(pipeline.done, total, dict(pipeline.seconds)))

    look()
    if needed:
        # A pass on a CPU may take seconds; a GPU is told what to do long before it does it.
        on_cpu = device.type == "cpu"
        with interruptible(extractors.values(), pipeline.stop_if_told) if on_cpu else nullcontext():
            pipeline.run(look=look)
        look()
    lanes = limits.threads if device.type == "cpu" else 1
    return Embedded(
        failed={s.model: s.failed for s in streams if s.failed is not None},
        causes={s.model: s.cause for s in streams if s.failed is not None},
        images_per_second={s.model: s.images * lanes / s.seconds for s in streams if s.seconds},
        counted=Counts(sum(len(distinct) - len(s.lacks) for s in streams), pipeline.done),
    )
