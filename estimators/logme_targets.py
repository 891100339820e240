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

_LEAST = 1e-10  # of the targets' squares: of what the features leave of them, rounding is too large a part below


def logme_targets(features: Tensor, targets: Tensor, /, *, blocks: Tensor | None = None) -> Score:
    """LogME of float targets `[N]`, or `[N, K]` (0/1 indicators for multi-label): the mean over the K columns.

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
    features = features.detach()
    value, unbounded = _value(features, columns)
    diagnostics: dict[str, float | int | bool | str] = {
        "variant": "exact",
        "n_targets": int(varying.sum()),
        "left_out": int((~varying).sum()),
        "unbounded": unbounded,
    }
    replicates = []
    for b in () if blocks is None else torch.unique(blocks).tolist():
        kept = (blocks != b).to(columns.device)
        try:
            replicates.append(_replicate(features[kept], columns[kept]))
        except Degenerate as error:
            return finish(value, {**diagnostics, "no_error": f"with block {b} left out: {error}"}, [])
    return finish(value, diagnostics, replicates)


def _replicate(features: Tensor, columns: Tensor) -> float:
    if bool((columns == columns[0]).all(0).any()):
        raise Degenerate("a target without variation")
    if bool((features == features[0]).all()):
        raise Degenerate("constant features: every row is the same")
    return _value(features, columns)[0]


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

    found = maximise(terms, norms, n, smallest=form.norm, largest=form.norm, size=form.size)
    if not bool(found.values.isfinite().all()) or bool(found.log_tau.isneginf().any()):
        raise Degenerate("the features fit the targets exactly: the evidence has no maximum")
    finite = found.log_tau.isfinite()
    if not dual and bool(finite.any()):
        log_q, _ = terms(found.log_tau[finite].exp().tolist())
        if bool((log_q[:, finite].diagonal() < (norms[finite] * _LEAST).log()).any()):
            raise Degenerate("the features fit the targets to the last digits that float64 has: nothing tells how well")
    return float(found.values.mean()), found.unbounded
