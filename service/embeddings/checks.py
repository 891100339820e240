"""What every embedding store refuses."""

from collections.abc import Sequence

from service.embeddings.protocol import HASH_BYTES, METRICS, Metric, Rows


def check_batch(hashes: Sequence[bytes], rows: Rows) -> None:
    if rows.ndim != 2 or len(rows) != len(hashes):
        raise ValueError(f"one row a content hash is needed: {len(hashes)} hashes, rows of shape {rows.shape}")
    if any(len(value) != HASH_BYTES for value in hashes):
        raise ValueError("a content hash is 32 bytes")


def check_search(queries: Rows, k: int, metric: Metric, /, *, dim: int | None) -> None:
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, not {metric!r}")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if queries.ndim != 2 or (dim is not None and queries.shape[1] != dim):
        width = "D" if dim is None else dim
        raise ValueError(f"queries must be of shape [M, {width}], not {list(queries.shape)}")
