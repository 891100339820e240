"""Embeddings that betray any mix-up: each row follows from its hash and its extractor."""

import hashlib

import numpy as np

from service.embeddings.model import StoreKey
from service.embeddings.protocol import Rows
from service.keys.tables import DEFAULT_PROJECT

ONE = StoreKey(DEFAULT_PROJECT, "1" * 64)
DIM = 5


def content(n: int) -> bytes:
    return hashlib.sha256(str(n).encode()).digest()


def rows_for(hashes: list[bytes], *, key: StoreKey = ONE, dim: int = DIM) -> Rows:
    """What this key's extractor makes of each image: any mix-up of rows, images or extractors shows."""
    seeds = [[int.from_bytes(h[:8], "big"), int(key.extractor_id[:8], 16), len(key.kind)] for h in hashes]
    return np.array([np.random.default_rng(s).standard_normal(dim) for s in seeds], dtype=np.float32).reshape(-1, dim)


def same_bits(a: Rows, b: Rows) -> bool:
    return a.dtype == b.dtype == np.float32 and a.shape == b.shape and a.tobytes() == b.tobytes()
