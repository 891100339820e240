"""From stored embeddings and labels to stored scores."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from estimators.catalog import SPECS, Need
from estimators.evidence import Evidence
from estimators.panel import Evaluation, evaluate
from service.compute.reference import ReferenceSet, WarmMoments
from service.compute.warm import WarmFindings
from service.embeddings.model import Kind, StoreKey
from service.embeddings.protocol import EmbeddingStore
from service.scoring.evidence import params_id
from service.scoring.repository import StoredScore


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
) -> list[StoredScore]:
    """Every named estimator on one model's embeddings of `hashes` (in content-hash order, so that blocks pair up)."""
    if not estimators:
        return []
    key = StoreKey(project_id, extractor_id)
    features = torch.from_numpy(store.get(key, hashes))
    needs = frozenset[Need]().union(*(SPECS[name].needs for name in estimators))
    probs, moments, rows = None, None, None
    if has_source_probs and Need.SOURCE_PROBS in needs:
        probs = torch.from_numpy(store.get(StoreKey(project_id, extractor_id, Kind.SOURCE_PROBS), hashes))
    if reference is not None and Need.BACKGROUND in needs:
        moments = warm.of(reference, key, store)
    if reference is not None and Need.REFERENCE_FEATURES in needs:
        rows = torch.from_numpy(store.get(key, reference.hashes))
    evidence = Evidence(
        labels=torch.from_numpy(labels),
        features=features,
        source_probs=probs,
        reference_moments=moments,
        reference_features=rows,
        label_free=findings.of(key, hashes, features),
    )
    found = evaluate(evidence, estimators)
    findings.trim()
    return [stored_score(name, evaluation) for name, evaluation in found.items()]


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
