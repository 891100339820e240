"""Embeds texts: tokenized once for each tokenizer, dealt into batches of like length, fed to each encoder.

Encoders that differ in layer or pooling alone share their forward passes.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import structlog
import torch

from service.compute.causes import cause_of, is_fatal
from service.compute.device import intra_op_threads
from service.compute.embedding import Counts, Embedded, Progress
from service.compute.pipeline import LOOK_SECONDS, ReadBlob
from service.compute.streams import Limits
from service.core.errors import Cancelled
from service.embeddings.model import StoreKey
from service.embeddings.protocol import EmbeddingStore, Rows
from zoo.errors import ExtractionFailed
from zoo.text import TextExtractor, together

log = structlog.get_logger(__name__)

TEXTS_AT_ONCE = 4096  # read, tokenized and sorted by length together; at most a segment
ON_CPU, ON_GPU = 16, 128  # texts a forward pass
_MODEL_ERRORS = (ExtractionFailed, RuntimeError, ValueError)


def embed_texts(
    extractors: Mapping[str, TextExtractor],
    hashes: Sequence[bytes],
    /,
    *,
    project_id: str,
    store: EmbeddingStore,
    read_blob: ReadBlob,
    batch_size: int,
    limits: Limits,
    device: torch.device,
    progress: Callable[[Progress], None],
    cut: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> Embedded:
    """Fills the store for every (model, text) pair that it lacks; `cut` hears how many texts were too long.

    A model that fails is dropped and the others go on.

    Raises:
        Cancelled: `cancelled()` became true; what is in full segments stays.
    """
    distinct = list(dict.fromkeys(hashes))
    lacks = {
        ident: set(store.missing(StoreKey(project_id, extractor.extractor_id), distinct))
        for ident, extractor in extractors.items()
    }
    work = _Work(sum(map(len, lacks.values())), progress, cancelled)
    work.look()
    passes: dict[str, list[str]] = defaultdict(list)
    for ident, extractor in extractors.items():
        if lacks[ident]:
            passes[extractor.same_pass].append(ident)
    found = Embedded()
    for idents in passes.values():
        of_pass = {ident: extractors[ident] for ident in idents}
        wanted = [value for value in distinct if any(value in lacks[ident] for ident in idents)]
        started, n_cut = time.perf_counter(), 0
        try:
            # One pass at a time, by all cores: a text is short, and a batch of them large enough to share out.
            with intra_op_threads(limits.threads if device.type == "cpu" else 1):
                for start in range(0, len(wanted), min(TEXTS_AT_ONCE, limits.segment_rows)):
                    part = wanted[start : start + min(TEXTS_AT_ONCE, limits.segment_rows)]
                    rows, too_long = _embedded(list(of_pass.values()), part, read_blob, batch_size, work)
                    n_cut += too_long
                    with work.timed("write"):
                        _store(of_pass, part, rows, lacks, project_id, store)
        except _MODEL_ERRORS as error:
            if is_fatal(error):
                raise
            for ident in idents:
                found.failed[ident], found.causes[ident] = f"{type(error).__name__}: {error}", cause_of(error)
            continue
        finally:
            seconds = time.perf_counter() - started
        for ident in idents:
            found.images_per_second[ident] = len(wanted) / seconds
            if len(wanted) == len(distinct):
                found.texts_cut[ident] = n_cut
        if n_cut:
            first = next(iter(of_pass.values()))
            cut(f"{n_cut:,} of {len(wanted):,} texts are cut at {first.max_length} tokens by {first.card.name}")
            log.info("texts.cut", models=len(idents), texts=len(wanted), cut=n_cut, max_length=first.max_length)
    stored = sum(len(distinct) - len(own) for own in lacks.values())
    found.counted = Counts(stored, sum(len(lacks[ident]) for ident in lacks if ident not in found.failed))
    work.look(at_once=True)
    return found


def texts_cut(extractor: TextExtractor, hashes: Sequence[bytes], read_blob: ReadBlob, /) -> int:
    """How many of the texts are longer than what the encoder takes."""
    parts = (hashes[start : start + TEXTS_AT_ONCE] for start in range(0, len(hashes), TEXTS_AT_ONCE))
    return sum(extractor.tokenize([read_blob(value).decode("utf-8") for value in part])[1] for part in parts)


class _Work:
    """What is done of it, told a few times a second."""

    def __init__(self, total: int, progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> None:
        self.done = 0
        self._total, self._progress, self._cancelled = total, progress, cancelled
        self._seconds = {"decode": 0.0, "forward": 0.0, "write": 0.0}
        self._looked = 0.0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[stage] += time.perf_counter() - started

    def look(self, *, at_once: bool = False) -> None:
        if not at_once and time.perf_counter() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.perf_counter()
        if self._cancelled():
            raise Cancelled("Embedding was told to stop.")
        self._progress(Progress(self.done, self._total, dict(self._seconds)))


def _embedded(
    extractors: Sequence[TextExtractor], hashes: Sequence[bytes], read_blob: ReadBlob, setting: int, work: _Work
) -> tuple[list[Rows], int]:
    """Features of the texts by each extractor, in their order, and how many texts were cut."""
    first = extractors[0]
    with work.timed("decode"):
        tokens, cut = first.tokenize([read_blob(value).decode("utf-8") for value in hashes])
    longest_first = sorted(range(len(tokens)), key=lambda i: -len(tokens[i]))
    rows = [np.empty((len(tokens), e.feature_dim), dtype=np.float32) for e in extractors]
    size = setting or (ON_CPU if first.device.type == "cpu" else ON_GPU)
    at = 0
    while at < len(longest_first):
        work.look()
        chosen = longest_first[at : at + size]
        try:
            with work.timed("forward"):
                made = together(extractors, [tokens[i] for i in chosen])
                for own, features in zip(rows, made, strict=True):
                    own[chosen] = features.cpu().numpy()
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            torch.cuda.empty_cache()
            continue
        at += len(chosen)
        work.done += len(chosen) * len(extractors)
    return rows, cut


def _store(
    extractors: Mapping[str, TextExtractor],
    hashes: Sequence[bytes],
    rows: Sequence[Rows],
    lacks: Mapping[str, set[bytes]],
    project_id: str,
    store: EmbeddingStore,
) -> None:
    for (ident, extractor), own in zip(extractors.items(), rows, strict=True):
        mine = [i for i, value in enumerate(hashes) if value in lacks[ident]]
        if mine:
            store.put(StoreKey(project_id, extractor.extractor_id), [hashes[i] for i in mine], own[mine])
