"""Definitions of the moment-based estimators, transcribed loop by loop; they share no code with `estimators`.

Each is pinned to a published figure in tests/unit/estimators/test_oracles_moments.py. numpy and scipy only.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar


def logme_dense(x, targets):
    """Mean over columns of max over (alpha, beta) of log N(t; 0, I/beta + X X^T/alpha), over N, by the Gram matrix."""
    x = np.asarray(x, dtype=np.float64)
    n = x.shape[0]
    values, vectors = np.linalg.eigh(x @ x.T)
    values = np.maximum(values, 0.0)
    total = 0.0
    for t in np.asarray(targets, dtype=np.float64).T:
        projected = (vectors.T @ t) ** 2

        def negative(log_tau, projected=projected):
            ratio = values / math.exp(log_tau)
            q = (projected / (1 + ratio)).sum()
            return 0.5 * (math.log(2 * math.pi) + 1 + math.log(q / n) + np.log1p(ratio).sum() / n)

        grid = np.linspace(math.log(values.max()) - 22, math.log(values.max()) + 14, 2000)
        heights = [negative(g) for g in grid]
        i = int(np.argmin(heights))
        around = (grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)])
        found = minimize_scalar(negative, bounds=around, method="bounded", options={"xatol": 1e-10})
        total -= min(found.fun, heights[i])
    return total / np.asarray(targets).shape[1]


def log_evidence(x, t, alpha, beta):
    """The evidence as the paper writes it, over N."""
    n, dim = x.shape
    a = alpha * np.eye(dim) + beta * x.T @ x
    m = beta * np.linalg.solve(a, x.T @ t)
    value = dim / 2 * math.log(alpha) + n / 2 * math.log(beta) - 0.5 * np.linalg.slogdet(a)[1]
    value -= beta / 2 * ((x @ m - t) ** 2).sum() + alpha / 2 * (m**2).sum() + n / 2 * math.log(2 * math.pi)
    return value / n


def logme_published(x, labels):
    """Eleven rounds of the fixed point from alpha = beta = 1, 1e-5 in two denominators, min(N, D) terms."""
    x = np.asarray(x, dtype=np.float64)
    n, dim = x.shape
    if n > dim:
        eigenvalues, v = np.linalg.eigh(x.T @ x)
        keep = eigenvalues > 1e-10
        sigma, u = eigenvalues[keep], (x @ v[:, keep]) / np.sqrt(eigenvalues[keep])
    else:
        u, s, _ = np.linalg.svd(x, full_matrices=False)
        sigma = s**2
    values = []
    for c in range(int(labels.max()) + 1):
        t = (labels == c).astype(np.float64)
        xi = u.T @ t
        rest = (t**2).sum() - (xi**2).sum()
        alpha, beta = 1.0, 1.0
        for _ in range(11):
            tau = alpha / beta
            gamma = (sigma / (sigma + tau)).sum()
            m2 = (sigma * xi**2 / (tau + sigma) ** 2).sum()
            res2 = (xi**2 / (1 + sigma / tau) ** 2).sum() + rest
            alpha = gamma / (m2 + 1e-5)
            beta = (n - gamma) / (res2 + 1e-5)
            if abs(alpha / beta - tau) / tau <= 1e-3:
                break
        value = dim / 2 * math.log(alpha) + n / 2 * math.log(beta) - 0.5 * np.log(alpha + beta * sigma).sum()
        value -= beta / 2 * res2 + alpha / 2 * m2 + n / 2 * math.log(2 * math.pi)
        values.append(value / n)
    return float(np.mean(values))


def ledoit_wolf(f):
    """Covariance shrunk towards its mean variance; f is centred."""
    n, dim = f.shape
    s = f.T @ f / n
    mu = np.trace(s) / dim
    fourth = sum(float(row @ row) ** 2 for row in f) / n
    beta = (fourth - (s**2).sum()) / (dim * n)
    delta = ((s**2).sum() - 2 * mu * np.trace(s) + dim * mu**2) / dim
    share = min(max(beta / delta, 0.0), 1.0)
    return (1 - share) * s + share * mu * np.eye(dim), share


def h_score(x, labels, regularised):
    f = np.asarray(x, dtype=np.float64)
    f = f - f.mean(0)
    g = np.zeros_like(f)
    for c in set(labels.tolist()):
        g[labels == c] = f[labels == c].mean(0)
    between = np.cov(g, rowvar=False)
    if not regularised:
        return float(np.trace(np.linalg.pinv(np.cov(f, rowvar=False), rcond=1e-15) @ between))
    covariance, share = ledoit_wolf(f)
    return float(np.trace(np.linalg.pinv(covariance) @ ((1 - share) * between)))


def transrate(z, labels, eps=1e-4, published=True):
    """Published: centred, every class weighted 1/C. Else over the root of the sum of squares, weights n_c/N."""
    z = np.asarray(z, dtype=np.float64)
    z = z - z.mean(0)
    if not published:
        z = z / math.sqrt((z**2).sum())

    def rate(part):
        return 0.5 * np.linalg.slogdet(np.eye(part.shape[1]) + part.T @ part / (len(part) * eps))[1]

    classes = sorted(set(labels.tolist()))
    value = rate(z)
    for c in classes:
        weight = 1 / len(classes) if published else (labels == c).mean()
        value -= weight * rate(z[labels == c])
    return value


def gbc(x, labels, floor):
    """-log of the mean overlap of pairs of diagonal Gaussians."""
    x = np.asarray(x, dtype=np.float64)
    classes = sorted(set(labels.tolist()))
    overlaps = []
    for a in range(len(classes)):
        for b in range(a + 1, len(classes)):
            xa, xb = x[labels == classes[a]], x[labels == classes[b]]
            distance = 0.0
            for d in range(x.shape[1]):
                va, vb = max(xa[:, d].var(), floor), max(xb[:, d].var(), floor)
                v = (va + vb) / 2
                distance += (xa[:, d].mean() - xb[:, d].mean()) ** 2 / v / 8
                distance += 0.5 * (math.log(v) - 0.5 * math.log(va) - 0.5 * math.log(vb))
            overlaps.append(math.exp(-distance))
    return -math.log(np.mean(overlaps))


def ped_rows(x, labels, mean, deviation, nsigma):
    """Rows after potential-energy decline, by the algorithm on rows: rescale, push, rescale back, until it slows."""
    x = np.asarray(x, dtype=np.float64).copy()
    scale = np.maximum(deviation, 1e-3)
    classes = sorted(set(labels.tolist()))
    first = None
    for _ in range(6):
        z = (x - mean) / scale
        mu = [z[labels == c].mean(0) for c in classes]
        radius = [math.sqrt(z[labels == c].var(0).sum()) for c in classes]
        shift = [np.zeros(x.shape[1]) for _ in classes]
        for a in range(len(classes)):
            for b in range(a + 1, len(classes)):
                direction = mu[b] - mu[a]
                distance = math.sqrt((direction**2).sum())
                force = max(nsigma * radius[a] + nsigma * radius[b] - distance, 0.0)
                length = min(0.5 * 0.1**2 * force, force)
                shift[a] -= length * direction / distance
                shift[b] += length * direction / distance
        change = sum(np.abs(s).sum() for s in shift)
        if first is None:
            first = change
        if first == 0 or not change / first > 0.5:
            break
        for c, s in zip(classes, shift, strict=True):
            z[labels == c] += s
        x = z * scale + mean
    return x
