"""Embeds what is missing: every image is decoded once for all models of a group, then fed to each of them."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch

from service.core.errors import Cancelled
from service.embeddings.protocol import EmbeddingStore, Kind, Rows, StoreKey
from zoo.errors import ExtractionFailed
from zoo.extract import Extractor
from zoo.preprocess import decode, prepare

PREFETCH_BATCHES = 8
MAX_PIXELS = 178_956_970  # what Pillow itself refuses; the dataset's own, smaller cap was held when it was taken in
ReadBlob = Callable[[bytes], bytes]


@dataclass(slots=True)
class Embedded:
    """What happened to each model of a group, by model id."""

    failed: dict[str, str] = field(default_factory=dict)
    images_per_second: dict[str, float] = field(default_factory=dict)  # of the forward pass alone


@dataclass(slots=True)
class _Stream:
    """One model's part of the work: what it lacks, and the rows not yet in a segment."""

    extractor: Extractor
    lacks: frozenset[bytes]
    hashes: list[bytes] = field(default_factory=list)
    features: list[Rows] = field(default_factory=list)
    probs: list[Rows] = field(default_factory=list)
    seconds: float = 0.0
    images: int = 0


def embed_group(
    extractors: Mapping[str, Extractor],
    hashes: Sequence[bytes],
    /,
    *,
    project_id: str,
    store: EmbeddingStore,
    read_blob: ReadBlob,
    batch_size: int,
    threads: int,
    segment_rows: int,
    progress: Callable[[int, int], None],
    cancelled: Callable[[], bool],
) -> Embedded:
    """Fills the store for every (model, image) pair that it lacks.

    All extractors share one preprocessing signature. A model that fails is dropped and the others go on; `progress`
    is called with (pairs embedded, pairs to embed).

    Raises:
        Cancelled: `cancelled()` became true; what is in full segments stays.
    """
    outcome = Embedded()
    streams = {
        model: _Stream(extractor, frozenset(store.missing(StoreKey(project_id, extractor.extractor_id), hashes)))
        for model, extractor in extractors.items()
    }
    total = sum(len(stream.lacks) for stream in streams.values())
    needed = [value for value in dict.fromkeys(hashes) if any(value in s.lacks for s in streams.values())]
    done = 0
    progress(0, total)
    for batch_hashes, pixels in _batches(needed, extractors, read_blob, batch_size=batch_size, threads=threads):
        for model, stream in streams.items():
            if model in outcome.failed:
                continue
            if cancelled():
                raise Cancelled("Embedding was told to stop.")
            mine = [i for i, value in enumerate(batch_hashes) if value in stream.lacks]
            if not mine:
                continue
            try:
                _forward(stream, [batch_hashes[i] for i in mine], pixels if len(mine) == len(pixels) else pixels[mine])
                if len(stream.hashes) >= segment_rows:
                    _flush(stream, project_id, store)
            except (ExtractionFailed, RuntimeError, ValueError) as error:
                outcome.failed[model] = f"{type(error).__name__}: {error}"
                total -= len(stream.lacks) - stream.images
                continue
            done += len(mine)
            progress(done, total)
    for model, stream in streams.items():
        if model not in outcome.failed:
            _flush(stream, project_id, store)
        if stream.images:
            outcome.images_per_second[model] = stream.images / stream.seconds
    return outcome


def _batches(
    hashes: Sequence[bytes], extractors: Mapping[str, Extractor], read_blob: ReadBlob, *, batch_size: int, threads: int
) -> Iterator[tuple[list[bytes], torch.Tensor]]:
    """Decoded batches, a few ahead of the device."""
    config = next(iter(extractors.values())).card.preprocess

    def pixels(value: bytes) -> torch.Tensor:
        return prepare(decode(read_blob(value), max_pixels=MAX_PIXELS), config)

    chunks = (list(hashes[start : start + batch_size]) for start in range(0, len(hashes), batch_size))
    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="decode") as pool:
        ahead: list[tuple[list[bytes], list[Future[torch.Tensor]]]] = []

        def submit(count: int) -> None:
            ahead.extend((chunk, [pool.submit(pixels, value) for value in chunk]) for chunk in islice(chunks, count))

        submit(PREFETCH_BATCHES)
        try:
            while ahead:
                chunk, futures = ahead.pop(0)
                batch = torch.stack([future.result() for future in futures])
                submit(1)
                yield chunk, batch
        finally:
            for _, futures in ahead:
                for future in futures:
                    future.cancel()


def _forward(stream: _Stream, hashes: list[bytes], pixels: torch.Tensor) -> None:
    started = time.perf_counter()
    features, probs = _forward_halving(stream.extractor, pixels)
    stream.seconds += time.perf_counter() - started
    stream.images += len(hashes)
    stream.hashes.extend(hashes)
    stream.features.append(features)
    if probs is not None:
        stream.probs.append(probs)


def _forward_halving(extractor: Extractor, pixels: torch.Tensor) -> tuple[Rows, Rows | None]:
    """One forward pass; on a full device, two of half the size."""
    try:
        features, probs = extractor.forward(pixels)
        return features.cpu().numpy(), None if probs is None else probs.cpu().numpy()
    except torch.OutOfMemoryError:
        if len(pixels) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(pixels) // 2
    first, second = _forward_halving(extractor, pixels[:half]), _forward_halving(extractor, pixels[half:])
    both = None if first[1] is None or second[1] is None else np.concatenate([first[1], second[1]])
    return np.concatenate([first[0], second[0]]), both


def _flush(stream: _Stream, project_id: str, store: EmbeddingStore) -> None:
    if not stream.hashes:
        return
    # Source probabilities first: an image counts as embedded once its features are stored, so that nothing is missed
    # when the process dies between the two.
    ident = stream.extractor.extractor_id
    if stream.probs:
        store.put(StoreKey(project_id, ident, Kind.SOURCE_PROBS), stream.hashes, np.concatenate(stream.probs))
    store.put(StoreKey(project_id, ident), stream.hashes, np.concatenate(stream.features))
    stream.hashes, stream.features, stream.probs = [], [], []
