"""One group of models on one dataset: load, embed what is missing, score, one outcome a model."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from service.compute.causes import cause_of
from service.compute.device import device_name
from service.compute.embedding import Counts, Embedded, Progress, embed_group
from service.compute.pipeline import MAX_PIXELS, ReadBlob
from service.compute.precision import PROBE_IMAGES, PrecisionPolicy, extractor_for, spread
from service.compute.reference import ReferenceSet, WarmMoments
from service.compute.scoring import by_moments, score_model, with_diagnostics
from service.compute.shards import Sharded, ShardMoments
from service.compute.streams import Limits
from service.compute.texts import embed_texts, texts_cut
from service.compute.warm import WarmFindings, WarmModels
from service.core.errors import Cancelled
from service.core.tracing import span
from service.embeddings.model import StoreKey
from service.embeddings.protocol import EmbeddingStore
from service.rankings.results import Failed, Scored
from service.scoring.repository import StoredScore
from zoo.catalog import ModelCard, Precision, extractor_id
from zoo.errors import BadCard, ZooError
from zoo.extract import Extractor
from zoo.loading import AnyExtractor
from zoo.preprocess import decode, prepare
from zoo.text import TextExtractor


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where and how a worker computes."""

    project_id: str
    store: EmbeddingStore
    read_blob: ReadBlob
    weights_cache: Path
    device: torch.device
    batch_size: int  # 0: found
    limits: Limits
    precision: PrecisionPolicy
    models: WarmModels
    warm: WarmMoments
    findings: WarmFindings
    moments: ShardMoments


@dataclass(frozen=True, slots=True)
class _Ready:
    """A model with everything embedded, loaded or not."""

    card: ModelCard
    params: int
    extractor_id: str


def compute_group(
    cards: Mapping[str, ModelCard],
    hashes: Sequence[bytes],
    labels: npt.NDArray[np.int64],
    reference: ReferenceSet | None,
    /,
    *,
    known_as: Mapping[str, str] | None = None,
    lacking: Callable[[str], Sequence[str]],
    shards: int = 1,
    shard: int | None = None,
    at: Workplace,
    report: Callable[[Mapping[str, Any]], None],
    cancelled: Callable[[], bool],
    done: Callable[[str, Scored | Failed], None],
) -> Counts:
    """Calls `done` once for every model; what goes wrong with one never reaches the others. Returns what was wanted.

    `known_as` names the extractors of pinned models: one that has embedded everything already is scored without its
    weights. `lacking` names the estimators without a score yet, by extractor. The reference set is embedded in the same
    pass. Of a dataset in several `shards`, one is embedded and leaves its moments; without `shard` they are scored.
    """
    dealt = Sharded.deal(hashes, labels, shards) if shards > 1 else None
    images = hashes if dealt is None or shard is None else dealt.images(shard)
    if reference is not None and not shard:
        images = [*images, *reference.hashes]
    ready = {
        ident: found
        for ident, extractor in (known_as or {}).items()
        if (found := _pinned(cards[ident], extractor)) is not None
        and not at.store.missing(StoreKey(at.project_id, extractor), images)
    }
    known = len(ready)
    state: dict[str, Any] = {"stage": "loading weights", "images_embedded": 0, "images_to_embed": 0}
    report(state)
    extractors: dict[str, AnyExtractor] = {}
    for ident, card in cards.items():
        if ident in ready:
            continue
        if cancelled():
            raise Cancelled("The ranking was told to stop.")
        try:
            with span("load weights", model=card.name):
                extractors[ident] = _extractor(card, hashes, labels, at)
        except ZooError as error:
            done(ident, Failed(f"{type(error).__name__}: {error}", cause_of(error)))

    meter = _Meter(report)
    embedded = Embedded()
    if extractors:
        with span("embed", models=len(extractors)):
            embedded = _embed(extractors, images, at, meter, cancelled)
    meter.stage("scoring")
    for ident, reason in embedded.failed.items():
        done(ident, Failed(reason, embedded.causes[ident]))
    ready |= {
        ident: _Ready(x.card, x.params, x.extractor_id)
        for ident, x in extractors.items()
        if ident not in embedded.failed
    }
    cuts = _Cuts(hashes, at, dict(embedded.texts_cut))
    for ident, model in ready.items():
        if cancelled():
            raise Cancelled("The ranking was told to stop.")
        wanted, key = lacking(model.extractor_id), StoreKey(at.project_id, model.extractor_id)
        scores: tuple[StoredScore, ...] | None = None
        if dealt is not None and shard is not None:
            if by_moments(wanted):
                at.moments.leave(key, dealt, shard, at.store)
        else:
            with span("score", model=model.card.name):
                made = score_model(
                    wanted,
                    hashes,
                    labels,
                    project_id=at.project_id,
                    extractor_id=model.extractor_id,
                    has_source_probs=bool(model.card.num_classes),
                    store=at.store,
                    reference=reference,
                    warm=at.warm,
                    findings=at.findings,
                    merged=None if dealt is None else partial(at.moments.merged, key, dealt, at.store),
                )
            cut = cuts.of(ident, model.card, extractors.get(ident)) if made else None
            scores = tuple(made if cut is None else (with_diagnostics(score, texts_cut=cut) for score in made))
        done(
            ident,
            Scored(
                card=model.card,
                params=model.params,
                extractor_id=model.extractor_id,
                scores=scores,
                device=device_name(at.device),
                images_per_second=embedded.images_per_second.get(ident),
                forward_bytes=at.models.forward_bytes(extractors[ident]) if ident in extractors else None,
                identity={
                    "architecture": model.card.architecture,
                    "weights_sha256": model.card.weights.sha256,
                    "precision": _precision(model),
                },
            ),
        )
        if dealt is not None and scores is not None:
            at.moments.forget(key, dealt)
    return embedded.counted + Counts(stored=known * len(set(images)))


class _Cuts:
    """How many of the scored texts each encoder cuts, counted where embedding has not counted it."""

    def __init__(self, hashes: Sequence[bytes], at: Workplace, known: dict[str, int]) -> None:
        self._hashes, self._at, self._known = hashes, at, known

    def of(self, ident: str, card: ModelCard, extractor: AnyExtractor | None) -> int | None:
        if card.modality != "text" or ident in self._known:
            return self._known.get(ident)
        try:
            found = extractor or self._at.models.load(card, device=self._at.device, cache_dir=self._at.weights_cache)
        except ZooError:  # scored without its weights, it may do without this too
            return None
        if not isinstance(found, TextExtractor):
            return None
        if found.same_pass not in self._known:
            self._known[found.same_pass] = texts_cut(found, self._hashes, self._at.read_blob)
        return self._known[found.same_pass]


def _embed(
    extractors: Mapping[str, AnyExtractor],
    hashes: Sequence[bytes],
    at: Workplace,
    meter: "_Meter",
    cancelled: Callable[[], bool],
) -> Embedded:
    """What the models of one ranking are given is all images or all texts."""
    of_texts = {ident: x for ident, x in extractors.items() if isinstance(x, TextExtractor)}
    if of_texts:
        return embed_texts(
            of_texts,
            hashes,
            project_id=at.project_id,
            store=at.store,
            read_blob=at.read_blob,
            batch_size=at.batch_size,
            limits=at.limits,
            device=at.device,
            progress=meter.progress,
            cut=meter.stage,
            cancelled=cancelled,
        )
    return embed_group(
        {ident: x for ident, x in extractors.items() if isinstance(x, Extractor)},
        hashes,
        project_id=at.project_id,
        store=at.store,
        read_blob=at.read_blob,
        batch_size=lambda extractor: at.models.batch_size(extractor, at.batch_size),
        limits=at.limits,
        device=at.device,
        progress=meter.progress,
        cancelled=cancelled,
    )


def _pinned(card: ModelCard, ident: str) -> _Ready | None:
    """The model as its card has it, where that says everything that scoring needs."""
    if card.weights.sha256 is None or card.params is None or card.feature_dim is None or card.num_classes is None:
        return None
    return _Ready(card, card.params, ident)


def _precision(model: _Ready) -> Precision:
    sha256 = model.card.weights.sha256 or ""
    exact = extractor_id(model.card, weights_sha256=sha256)
    return "float32" if model.extractor_id == exact else "bfloat16"


def _extractor(card: ModelCard, hashes: Sequence[bytes], labels: npt.NDArray[np.int64], at: Workplace) -> AnyExtractor:
    if card.modality == "text":
        return at.models.load(card, device=at.device, cache_dir=at.weights_cache)

    def load(card: ModelCard, precision: Precision) -> Extractor:
        found = at.models.load(card, device=at.device, cache_dir=at.weights_cache, precision=precision)
        if not isinstance(found, Extractor):
            raise BadCard(f"{card.name} reads no images")
        return found

    def sample(card: ModelCard) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = spread(labels, PROBE_IMAGES)
        decoded = (decode(at.read_blob(hashes[i]), max_pixels=MAX_PIXELS) for i in chosen)
        return torch.stack([prepare(image, card.preprocess) for image in decoded]), torch.from_numpy(labels[chosen])

    return extractor_for(card, policy=at.precision, load=load, sample=sample)


class _Meter:
    """Turns counts into what a watcher wants to read: images, rate, stage."""

    def __init__(self, report: Callable[[Mapping[str, Any]], None]) -> None:
        self._report = report
        self._started = time.perf_counter()
        self._state: dict[str, Any] = {"stage": "embedding"}

    def progress(self, made: Progress) -> None:
        seconds = time.perf_counter() - self._started
        self._state |= {
            "images_embedded": made.embedded,
            "images_to_embed": made.to_embed,
            "images_per_second": made.embedded / seconds if made.embedded and seconds > 0 else None,
            "stage_seconds": dict(made.stage_seconds),
        }
        self._report(self._state)

    def stage(self, name: str) -> None:
        self._state["stage"] = name
        self._report(self._state)
