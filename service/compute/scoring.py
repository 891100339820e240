"""From stored embeddings and labels to stored scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from estimators.blocks import BlockMoments
from estimators.catalog import SPECS, Need
from estimators.evidence import Evidence
from estimators.moments import ClassMoments
from estimators.panel import Evaluation, evaluate
from service.compute.reference import ReferenceSet, WarmMoments
from service.compute.warm import WarmFindings
from service.embeddings.model import Kind, StoreKey
from service.embeddings.protocol import EmbeddingStore
from service.scoring.evidence import params_id
from service.scoring.repository import StoredScore

OF_MOMENTS = frozenset({Need.MOMENTS, Need.BACKGROUND})


@dataclass(frozen=True, slots=True)
class _Sources:
    """One model's embeddings, and what may be known of them already."""

    key: StoreKey
    has_source_probs: bool
    store: EmbeddingStore
    reference: ReferenceSet | None
    warm: WarmMoments
    findings: WarmFindings


def score_model(
    estimators: Sequence[str],
    hashes: Sequence[bytes],
    labels: npt.NDArray[np.int64],
    /,
    *,
    project_id: str,
    extractor_id: str,
    has_source_probs: bool,
    store: EmbeddingStore,
    reference: ReferenceSet | None,
    warm: WarmMoments,
    findings: WarmFindings,
    merged: Callable[[], BlockMoments] | None = None,
) -> list[StoredScore]:
    """Every named estimator on one model's embeddings of `hashes` (in content-hash order, so that blocks pair up).

    `merged` makes the moments of a dataset in shards: what needs moments alone is then computed from them.
    """
    sources = _Sources(StoreKey(project_id, extractor_id), has_source_probs, store, reference, warm, findings)
    found: dict[str, Evaluation] = {}
    if merged is not None and (of_moments := by_moments(estimators)):
        evidence = Evidence(
            labels=torch.from_numpy(labels),
            moments=merged(),
            reference_moments=_background(of_moments, sources),
        )
        found |= evaluate(evidence, of_moments)
    by_rows = [name for name in estimators if name not in found]
    if by_rows:
        found |= evaluate(_of_rows(by_rows, hashes, labels, sources), by_rows)
        findings.trim()
    return [stored_score(name, found[name]) for name in estimators]


def with_diagnostics(score: StoredScore, /, **more: int) -> StoredScore:
    return replace(score, diagnostics={**score.diagnostics, **more})


def by_moments(estimators: Sequence[str], /) -> list[str]:
    """Those that need no rows."""
    return [name for name in estimators if SPECS[name].needs <= OF_MOMENTS]


def _of_rows(
    estimators: Sequence[str], hashes: Sequence[bytes], labels: npt.NDArray[np.int64], sources: _Sources
) -> Evidence:
    key, store = sources.key, sources.store
    features = torch.from_numpy(store.get(key, hashes))
    needs = _needs(estimators)
    probs, rows = None, None
    if sources.has_source_probs and Need.SOURCE_PROBS in needs:
        probs = torch.from_numpy(store.get(replace(key, kind=Kind.SOURCE_PROBS), hashes))
    if sources.reference is not None and Need.REFERENCE_FEATURES in needs:
        rows = torch.from_numpy(store.get(key, sources.reference.hashes))
    return Evidence(
        labels=torch.from_numpy(labels),
        features=features,
        source_probs=probs,
        reference_moments=_background(estimators, sources),
        reference_features=rows,
        label_free=sources.findings.of(key, hashes, features),
    )


def _background(estimators: Sequence[str], sources: _Sources) -> ClassMoments | None:
    if sources.reference is None or Need.BACKGROUND not in _needs(estimators):
        return None
    return sources.warm.of(sources.reference, sources.key, sources.store)


def _needs(estimators: Sequence[str]) -> frozenset[Need]:
    return frozenset[Need]().union(*(SPECS[name].needs for name in estimators))


def stored_score(name: str, evaluation: Evaluation, /) -> StoredScore:
    score = evaluation.score
    return StoredScore(
        estimator=name,
        version=SPECS[name].version,
        params_id=params_id({}),
        value=None if score is None else score.value,
        stderr=None if score is None else score.stderr,
        degenerate=None if score is not None else (evaluation.degenerate or evaluation.missing),
        seconds=evaluation.seconds,
        diagnostics={} if score is None else dict(score.diagnostics),
        replicates=() if score is None else score.replicates,
    )
