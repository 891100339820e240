"""The leave-one-out kNN vote, by sorting, one image at a time. Shares no code with `estimators`.

Provenance: the textbook rule (Cover and Hart, 1967) with this product's tie rules: rows that tie for the last places
share them, equal votes go to the larger summed similarity, then to the lowest label.
"""

import math

import numpy as np


def similarity(a, b, metric):
    if metric == "cosine":
        return float(a @ b) / (math.sqrt(float(a @ a)) * math.sqrt(float(b @ b)))
    return -float(((a - b) ** 2).sum())


def weights(query, rows, k, metric):
    """Return {row: weight} of the k nearest among rows, a list of (position, row)."""
    near = [(similarity(query, row, metric), position) for position, row in rows]
    kth = sorted((s for s, _ in near), reverse=True)[k - 1]
    above = [(s, p) for s, p in near if s > kth + 1e-12]
    level = [(s, p) for s, p in near if abs(s - kth) <= 1e-12]
    found = {p: (1.0, s) for s, p in above}
    found.update({p: ((k - len(above)) / len(level), s) for s, p in level})
    return found


def vote(found, labels):
    votes, summed = {}, {}
    for position, (weight, s) in found.items():
        label = int(labels[position])
        votes[label] = votes.get(label, 0.0) + weight
        summed[label] = summed.get(label, 0.0) + weight * s
    most = max(votes.values())
    first = [label for label in votes if votes[label] >= most - 1e-12]
    best = max(summed[label] for label in first)
    return min(label for label in first if summed[label] >= best - 1e-12)


def knn_accuracy(X, y, k, metric="cosine", keep=None):
    """Return the leave-one-out accuracy over the rows in `keep`, voted among themselves."""
    X = np.array(X, dtype=np.float64)
    positions = range(len(X)) if keep is None else [int(i) for i in keep]
    right = 0
    for i in positions:
        rows = [(j, X[j]) for j in positions if j != i]
        right += vote(weights(X[i], rows, k, metric), y) == int(y[i])
    return right / len(positions)
