"""LogME of targets that are not classes: regression and multi-label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from estimators.errors import Degenerate, InvalidInput
from estimators.evidence_curve import maximise
from estimators.linalg import gram
from estimators.score import Score
from estimators.shared import finish
from estimators.shifted import ShiftedForm


def logme_targets(features: Tensor, targets: Tensor, /, *, blocks: Tensor | None = None) -> Score:
    """LogME of float targets `[N]` or `[N, K]` (0/1 indicators for multi-label): the mean over the K columns.

    As `estimators.logme.logme`, which calls it; a column without any variation says nothing and is left out.
    """
    columns = targets.to(torch.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if features.ndim != 2 or features.shape[0] != columns.shape[0]:
        raise InvalidInput(f"features must be [N, D], one row a target, got shape {tuple(features.shape)}")
    if not bool(features.isfinite().all()) or not bool(columns.isfinite().all()):
        raise InvalidInput("features or targets contain NaN or infinity")
    varying = columns.amax(0) > columns.amin(0)
    if not bool(varying.any()):
        raise Degenerate("constant targets: there is nothing to explain")
    columns = columns[:, varying].to(features.device)
    if bool((features == features[0]).all()):
        raise Degenerate("constant features: every row is the same")
    value, unbounded = _value(features, columns)
    replicates = []
    if blocks is not None:
        numbers = torch.unique(blocks).tolist()
        replicates = [_value(features[blocks != b], columns[(blocks != b).to(columns.device)])[0] for b in numbers]
    diagnostics: dict[str, float | int | bool | str] = {
        "variant": "exact",
        "n_targets": int(varying.sum()),
        "left_out": int((~varying).sum()),
    }
    return finish(value, {**diagnostics, "unbounded": unbounded}, replicates)


def _value(features: Tensor, targets: Tensor) -> tuple[float, int]:
    n, dim = features.shape
    dual = n < dim
    matrix = gram(features.T if dual else features, features.new_zeros(n if dual else dim, dtype=torch.float64))
    form = ShiftedForm(matrix)
    x = features.to(torch.float64)
    rotated = form.rotate(targets if dual else x.T @ targets)
    norms = targets.square().sum(0)

    def terms(taus: Sequence[float]) -> tuple[Tensor, Tensor]:
        explained, logdet = form.quadratics(rotated, taus)
        tau = torch.tensor(taus, dtype=torch.float64, device=rotated.device)
        q = tau[:, None] * explained if dual else norms - explained
        return q.clamp_min(1e-300).log(), logdet - form.size * tau.log()

    found = maximise(terms, norms, n, smallest=form.norm, largest=form.norm)
    if not bool(found.values.isfinite().all()) or bool(found.log_tau.isneginf().any()):
        raise Degenerate("the features fit the targets exactly: the evidence has no maximum")
    return float(found.values.mean()), found.unbounded
