"""Scores of features that a user brought."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from estimators.catalog import SPECS, Need
from estimators.errors import InvalidInput
from estimators.evidence import Evidence
from estimators.moments import ClassMoments
from estimators.panel import Evaluation, evaluate
from service.scoring.arrays import Array, Arrays

_OF_REFERENCE = {Need.BACKGROUND, Need.REFERENCE_FEATURES}


def score_arrays(arrays: Arrays, names: Sequence[str], /) -> dict[str, dict[str, Any]]:
    """Every named estimator: value, error, diagnostics and seconds, or the reason why there is no value."""
    return {name: _plain(evaluation) for name, evaluation in evaluate(_evidence(arrays, names), names).items()}


def _evidence(arrays: Arrays, names: Sequence[str]) -> Evidence:
    labels = arrays.labels
    whole = labels.dtype.kind in "iub"
    reference = _floats(arrays.reference_features)
    moments = None
    if reference is not None and any(_OF_REFERENCE & SPECS[name].needs for name in names):
        try:
            moments = ClassMoments.from_features(reference, torch.zeros(len(reference), dtype=torch.int64))
        except InvalidInput as error:
            raise InvalidInput(f"reference_features: {error}") from error
    background = None
    if arrays.background_mean is not None and arrays.background_std is not None:
        background = (
            torch.from_numpy(arrays.background_mean.astype(np.float64)),
            torch.from_numpy(arrays.background_std.astype(np.float64)),
        )
    return Evidence(
        labels=torch.from_numpy(labels.astype(np.int64 if whole and labels.ndim == 1 else np.float64)),
        features=_floats(arrays.features),
        source_probs=_floats(arrays.source_probs),
        background=background,
        reference_moments=moments,
        reference_features=reference,
        text_prototypes=_floats(arrays.text_prototypes),
    )


def _floats(array: Array | None) -> torch.Tensor | None:
    if array is None:
        return None
    dtype = np.float64 if array.dtype == np.float64 else np.float32
    return torch.from_numpy(np.require(array, dtype=dtype, requirements=["C", "W"]))


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    if evaluation.score is None:
        key = "degenerate" if evaluation.degenerate is not None else "missing"
        return {key: evaluation.degenerate or evaluation.missing, "seconds": evaluation.seconds}
    return {
        "value": evaluation.score.value,
        "stderr": evaluation.score.stderr,
        "diagnostics": dict(evaluation.score.diagnostics),
        "seconds": evaluation.seconds,
    }
