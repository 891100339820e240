"""Exact nearest neighbours among rows that are read block by block."""

from collections.abc import Callable

import numpy as np

from service.embeddings.protocol import Metric, Positions, Rows

BLOCK_BYTES = 64 * 2**20
SPARE = 16  # float32 may swap neighbours that are nearly equally near: so many more are compared again in float64
RESCORED_BYTES = 32 * 2**20
ReadRows = Callable[[Positions], Rows]


def flat(read: ReadRows, n: int, queries: Rows, k: int, /, *, metric: Metric) -> tuple[Positions, Rows]:
    """The k nearest of rows 0..n-1 to each query, by comparing with each of them.

    By matrix products of NumPy's: its BLAS is four times as fast as the one that FAISS brings (benchmarks/store.py).
    """
    step = max(1, BLOCK_BYTES // (4 * queries.shape[1]))
    if n <= step:
        everything = read(np.arange(n))
        read = everything.__getitem__
    asked, at_once = prepared(queries, metric), max(1, BLOCK_BYTES // (4 * min(step, n)))
    kept = min(k + SPARE, n)
    found = np.zeros((len(queries), kept), dtype=np.int64)
    near = np.full((len(queries), kept), -np.inf, dtype=np.float32)
    for start in range(0, n, step):
        block = read(np.arange(start, min(start + step, n)))
        finite = np.isfinite(block).all(axis=1)
        block = prepared(block, metric)
        lengths = np.einsum("ij,ij->i", block, block) / 2 if metric == "l2" else None
        for first in range(0, len(queries), at_once):
            part = slice(first, first + at_once)
            with np.errstate(invalid="ignore", over="ignore"):
                nearness = asked[part] @ block.T
                if lengths is not None:
                    nearness -= lengths
            nearness[:, ~finite] = -np.inf
            best = np.argpartition(nearness, max(0, len(block) - kept), axis=1)[:, -kept:]
            both = np.concatenate([near[part], np.take_along_axis(nearness, best, axis=1)], axis=1)
            places = np.concatenate([found[part], best + start], axis=1)
            best = np.argpartition(both, both.shape[1] - kept, axis=1)[:, -kept:]
            near[part], found[part] = np.take_along_axis(both, best, axis=1), np.take_along_axis(places, best, axis=1)
    found[np.isneginf(near)] = -1
    return rescored(read, queries, found, k, metric=metric)


def prepared(rows: Rows, metric: Metric, /) -> Rows:
    """Rows as FAISS compares them: of length one for the cosine, where a row of zeros is similar to nothing."""
    if metric == "l2":
        return np.ascontiguousarray(rows)
    with np.errstate(invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        norms[norms == 0] = 1
        return np.ascontiguousarray(rows / norms[:, None].astype(np.float32))


def rescored(
    read: ReadRows, queries: Rows, candidates: Positions, k: int, /, *, metric: Metric
) -> tuple[Positions, Rows]:
    """The k best of each query's candidates in float64; of equal ones, those that come first."""
    positions = np.full((len(queries), k), -1, dtype=np.int64)
    values = np.full((len(queries), k), np.nan, dtype=np.float32)
    width = candidates.shape[1]
    step = max(1, RESCORED_BYTES // (8 * max(1, width) * queries.shape[1]))
    for start in range(0, len(queries), step):
        part = np.sort(candidates[start : start + step], axis=1)
        if part.size == 0:
            continue
        rows = read(np.maximum(part, 0).ravel()).reshape(*part.shape, -1)
        value = compared(queries[start : start + step], rows, metric)
        value[part < 0] = np.nan
        order = np.argsort(-value if metric == "cosine" else value, axis=1, kind="stable")[:, :k]  # NaN comes last
        best, where = np.take_along_axis(value, order, axis=1), np.take_along_axis(part, order, axis=1)
        positions[start : start + step, : best.shape[1]] = np.where(np.isnan(best), -1, where)
        values[start : start + step, : best.shape[1]] = best
    return positions, values


def compared(queries: Rows, rows: Rows, metric: Metric, /) -> Rows:
    """Each query `[M, D]` with rows of its own `[M, W, D]`, in float64; NaN where one of the two is not finite."""
    a, b = queries.astype(np.float64)[:, None, :], rows.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        if metric == "l2":
            value = np.sqrt(np.square(a - b).sum(axis=-1))
        else:
            lengths = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
            value = np.where(lengths == 0, 0.0, (a * b).sum(axis=-1) / lengths).clip(-1, 1)
        value[~np.isfinite(value)] = np.nan
    rounded: Rows = value.astype(np.float32)
    return rounded
