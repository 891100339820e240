"""SFDA, transcribed loop by loop from its published definition and constants.

Provenance: the definition in Shao et al., "Not All Models Are Equal: Predicting Model Transferability in a
Self-challenging Fisher Space", ECCV 2022, arXiv:2207.03036, with the constants of the authors' released code: biased
class covariances weighted by class shares; lambda by three double power steps from S_W 1; shrinkage
max(exp(-5 lambda), 1e-10); all D generalised eigenvectors of (S_B, S_W); a second softmax on probabilities before
confidence mixing; the refit keeps the shrinkage; the mean probability without a logarithm.
Pinned to what the released code gave on pure noise, ten classes: 1.0 (N=500, D=2048) and 0.106 (N=500, D=32).
Written from the definition; shares no code with `estimators`.
"""

import math

import numpy as np
from scipy.linalg import eigh


def largest_eigenvalue(A):
    x = np.array([sum(row) for row in A])
    y = x
    for _ in range(3):
        y = A @ x
        y = y / math.sqrt(sum(v * v for v in y))
        x = A @ y
        x = x / math.sqrt(sum(v * v for v in x))
    return float(x @ A @ y)


def fisher_probabilities(X, y, shrinkage=None):
    n, d = X.shape
    classes = sorted(set(y.tolist()))
    means, shares = [], []
    within = np.zeros((d, d))
    for c in classes:
        own = X[y == c]
        shares.append(len(own) / n)
        means.append(own.sum(0) / len(own))
        centred = own - means[-1]
        within += shares[-1] * (centred.T @ centred) / len(own)
    total_centred = X - X.sum(0) / n
    total = total_centred.T @ total_centred / n
    if shrinkage is None:
        shrinkage = max(math.exp(-5 * largest_eigenvalue(within)), 1e-10)
    within = (1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d)
    total = (1 - shrinkage) * total + shrinkage * np.trace(total) / d * np.eye(d)
    _, V = eigh(total - within, within)
    probabilities = np.zeros((n, len(classes)))
    weights = [V @ (V.T @ mean) for mean in means]
    for i in range(n):
        scores = [
            float(X[i] @ w) - 0.5 * float(mean @ w) + math.log(share)
            for w, mean, share in zip(weights, means, shares, strict=True)
        ]
        top = max(scores)
        powers = [math.exp(s - top) for s in scores]
        probabilities[i] = [p / sum(powers) for p in powers]
    return probabilities, means, classes, shrinkage


def sfda(X, y):
    X = np.array(X, dtype=np.float64)
    y = np.asarray(y)
    probabilities, means, classes, shrinkage = fisher_probabilities(X, y)
    mixed = np.zeros_like(X)
    for i in range(len(X)):
        own = classes.index(y[i])
        softened = [math.exp(p) for p in probabilities[i]]
        confidence = softened[own] / sum(softened)
        others = [mean for c, mean in enumerate(means) if c != own]
        mixed[i] = confidence * X[i] + (1 - confidence) * sum(others) / len(others)
    final, _, _, _ = fisher_probabilities(mixed, y, shrinkage)
    return sum(final[i][classes.index(y[i])] for i in range(len(X))) / len(X)
