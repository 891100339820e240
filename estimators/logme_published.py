"""LogME as its authors' code computes it: for comparison with published numbers, never to rank models."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score
from estimators.shared import check_features

_ROUNDS = 11
_EPSILON = 1e-5
_TOLERANCE = 1e-3
_SMALLEST = 1e-10


def logme_published(features: object, labels: Tensor | None, /) -> Score:
    """The fixed point from alpha = beta = 1: eleven rounds, 1e-5 in two denominators, k = min(N, D) terms.

    As `estimators.logme.logme(..., variant="published")`, which calls it. Labels are re-indexed:
    without gaps the number is the authors', with gaps it is what theirs would be without the empty classes.
    """
    if not isinstance(features, Tensor) or labels is None:
        raise InvalidInput("the published variant is computed from features and labels, not from moments")
    check_features(features, labels)
    if not bool(features.isfinite().all()):
        raise InvalidInput("features contain NaN or infinity")
    x = features.to(torch.float64)
    n, dim = x.shape
    found, classes = torch.unique(labels.to(x.device), return_inverse=True)
    if len(found) < 2:
        raise Degenerate("one class only: there is nothing to tell apart")
    if n > dim:
        sigma, vectors = torch.linalg.eigh(x.T @ x)
        keep = sigma > _SMALLEST
        sigma, vectors = sigma[keep], vectors[:, keep]
        left = (x @ vectors) / sigma.sqrt()
    else:
        left, singular, _ = torch.linalg.svd(x, full_matrices=False)
        sigma = singular.square()
    total = 0.0
    for c in range(len(found)):
        target = (classes == c).to(torch.float64)
        total += _evidence((left.T @ target).square(), sigma, float(target.sum()), n, dim)
    return Score(total / len(found), None, {"variant": "published", "n_classes": len(found)})


def _evidence(x2: Tensor, sigma: Tensor, norm: float, n: int, dim: int) -> float:
    alpha = beta = 1.0
    outside = norm - float(x2.sum())
    m2 = residual = 0.0
    for _ in range(_ROUNDS):
        if alpha <= 0 or beta <= 0:
            break
        tau = alpha / beta
        gamma = float((sigma / (sigma + tau)).sum())
        m2 = float((sigma * x2 / (tau + sigma).square()).sum())
        residual = float((x2 / (1 + sigma / tau).square()).sum()) + outside
        alpha = gamma / (m2 + _EPSILON)
        beta = (n - gamma) / (residual + _EPSILON)
        if abs(alpha / beta - tau) / tau <= _TOLERANCE:
            break
    if alpha <= 0 or beta <= 0:
        raise Degenerate("the published fixed point left the domain of the logarithm")
    evidence = dim / 2 * math.log(alpha) + n / 2 * math.log(beta)
    evidence -= 0.5 * float((alpha + beta * sigma).log().sum())
    evidence -= beta / 2 * residual + alpha / 2 * m2 + n / 2 * math.log(2 * math.pi)
    return evidence / n
