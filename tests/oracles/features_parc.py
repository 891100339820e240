"""PARC, transcribed loop by loop from its published definition and constants.

Provenance: Bolya et al., "Scalable Diverse Model Selection for Accessible Transfer Learning", NeurIPS 2021,
arXiv:2111.06977, with the constants of the authors' released code: a randomised PCA to 32 dimensions (scikit-learn,
seed 1919, one power iteration), unit variance, one minus the correlation of rows, one minus the correlation of
indicators, Spearman over the pairs, times 100. Ranks and correlations are written out; no code is shared
with `estimators`.
No figure of its score on data that can be had is published: it is pinned to SciPy's `spearmanr` and NumPy's `corrcoef`.
"""

import math

import numpy as np
from sklearn.decomposition import PCA


def correlation(a, b):
    a, b = a - a.sum() / len(a), b - b.sum() / len(b)
    return float((a * b).sum()) / math.sqrt(float((a * a).sum()) * float((b * b).sum()))


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    out = np.zeros(len(values))
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in range(start, end + 1):
            out[order[position]] = (start + end) / 2 + 1
        start = end + 1
    return out


def project(X, n_components=32):
    Z = PCA(n_components, svd_solver="randomized", iterated_power=1, random_state=1919).fit_transform(X)
    for d in range(Z.shape[1]):
        Z[:, d] = (Z[:, d] - Z[:, d].sum() / len(Z)) / math.sqrt(float(((Z[:, d] - Z[:, d].mean()) ** 2).mean()))
    return Z


def parc(X, y, *, projected=None):
    Z = project(np.array(X, dtype=np.float64)) if projected is None else projected
    y = np.asarray(y)
    classes = sorted(set(y.tolist()))
    indicators = np.array([[1.0 if label == c else 0.0 for c in classes] for label in y])
    features, labels = [], []
    for i in range(len(Z)):
        for j in range(i + 1, len(Z)):
            features.append(1 - correlation(Z[i], Z[j]))
            # Rounded, because equal indicators must tie whatever the order of the sum.
            labels.append(round(1 - correlation(indicators[i], indicators[j]), 9))
    return 100 * correlation(ranks(features), ranks(labels))
