"""An inverted file over many rows: approximate, made again from the segments whenever it is missing.

Its name says which images it holds, so it is never out of date, whatever becomes of the segments.
"""

import hashlib
import math
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from service.embeddings.model import StoreKey
from service.embeddings.neighbours import SPARE, ReadRows, prepared, rescored
from service.embeddings.protocol import Metric, Positions, Rows
from service.embeddings.segment import write_index

# Measured on two cores at 768 numbers a row (benchmarks/store.py): comparing with every row takes 1.9e-8 s a pair,
# making the index 0.2 ms a row, and asking it a twentieth of comparing.
INDEX_ROWS = 50_000
WORTH_MAKING_PAIRS = 2_000_000_000
PROBES = 32
SAMPLE_PER_LIST = 40
SAMPLE_BYTES = 256 * 2**20
BLOCK_BYTES = 64 * 2**20
TRAINING_ROUNDS = 5


def index_file(root: Path, key: StoreKey, hashes: Sequence[bytes], metric: Metric, /) -> Path:
    """`hashes` are sorted and distinct."""
    digest = hashlib.sha256(b"".join(hashes)).hexdigest()
    return root / key.project_id / f"{key.extractor_id}.{key.kind}.{digest}.{metric}.ivf"


def make_index(path: Path, read: ReadRows, n: int, dim: int, metric: Metric, /) -> None:
    faiss.omp_set_num_threads(faiss_threads())
    rng = np.random.default_rng(0)
    wanted = min(n, SAMPLE_PER_LIST * int(4 * math.sqrt(n)), SAMPLE_BYTES // (4 * dim))
    sample = _finite(read(np.sort(rng.choice(n, wanted, replace=False))))[1]
    lists = max(1, min(int(4 * math.sqrt(n)), len(sample) // SAMPLE_PER_LIST))
    kind = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
    coarse = faiss.IndexFlat(dim, kind)
    index = faiss.IndexIVFScalarQuantizer(coarse, dim, lists, faiss.ScalarQuantizer.QT_8bit, kind)
    index.cp.niter, index.cp.min_points_per_centroid = TRAINING_ROUNDS, 1
    index.train(prepared(sample, metric))
    step = max(1, BLOCK_BYTES // (4 * dim))
    for start in range(0, n, step):
        numbers = np.arange(start, min(start + step, n))
        there, rows = _finite(read(numbers))
        index.add_with_ids(prepared(rows, metric), numbers[there])
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    write_index(index, arriving)
    arriving.rename(path)


def open_index(path: Path, /) -> Any:
    os.utime(path)  # unused for a grace period, it is collected
    return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)


def ask(
    index: Any, read: ReadRows, queries: Rows, k: int, /, *, metric: Metric, place: Positions
) -> tuple[Positions, Rows, str]:
    """Neighbours by the index, their values by the rows themselves. `place` leads from its numbers to the caller's."""
    faiss.omp_set_num_threads(faiss_threads())
    probes = min(PROBES, index.nlist)
    finite = np.isfinite(queries).all(axis=1)
    found = np.full((len(queries), k + SPARE), -1, dtype=np.int64)
    parameters = faiss.SearchParametersIVF()
    parameters.nprobe = probes
    found[finite] = index.search(prepared(queries[finite], metric), k + SPARE, params=parameters)[1]
    candidates = np.where(found < 0, -1, place[found])
    positions, values = rescored(read, queries, candidates, k, metric=metric)
    return positions, values, f"ivf{index.nlist},sq8,nprobe{probes}"


def forget(root: Path, project_id: str, /, *, horizon: float) -> None:
    """Removes what was last used before `horizon`."""
    for path in (root / project_id).glob("*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime <= horizon:
                path.unlink()


def faiss_threads() -> int:
    """Every core that this process may use; one where a second OpenMP runtime beside torch's would abort."""
    if sys.platform == "darwin":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finite(rows: Rows) -> tuple[Any, Rows]:
    there = np.isfinite(rows).all(axis=1)
    return there, rows[there]
