"""The embedding store: put, get and nearest neighbours, bytes on disk and peak memory.

    python -m benchmarks.store                      # 200,000 embeddings of 768 numbers from each of 20 extractors
    python -m benchmarks.store --extractors 3 --storage float16

Embeddings are stored as the pipeline stores them, in segments of 16,384, and merged afterwards; `get` is measured on
a dataset of 10,000 of them before and after, against reading one .npy of the same rows with NumPy. Whatever is timed
has been written just before, so that files are in the page cache for both. Needs 0.65 GB an extractor.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from service.core.db import Database, make_engine
from service.core.migrate import upgrade
from service.embeddings import derived, upkeep
from service.embeddings.files import LocalFiles
from service.embeddings.model import Storage, StoreKey
from service.embeddings.protocol import Rows
from service.embeddings.store import SegmentStore
from service.keys.tables import DEFAULT_PROJECT
from service.schema import all_tables

SEGMENT_ROWS = 16_384
DATASET = 10_000
QUERIES = 1_000
ROUNDS = 7
FACTORS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractors", type=int, default=20)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--storage", choices=("float32", "float16"), default="float32")
    parser.add_argument("--folder", type=Path, help="where the store lies meanwhile; a temporary folder if not given")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        measured = measure(Path(folder), given.extractors, given.rows, given.dim, given.storage)
    print(json.dumps(measured, indent=2) if given.json else as_text(measured))


def measure(folder: Path, extractors: int, n: int, dim: int, storage: Storage) -> dict[str, Any]:
    all_tables()
    database = Database(make_engine(f"sqlite:///{folder / 'db.sqlite'}", busy_timeout_ms=15_000, pool_size=4))
    upgrade(database)
    store = SegmentStore(LocalFiles(folder / "segments"), database, storage=storage)
    rng = np.random.default_rng(0)
    content = np.sort(np.frombuffer(rng.bytes(32 * n), dtype="S32"))
    hashes = [value.ljust(32, b"\0") for value in content.tolist()]
    start = int(rng.integers(n - DATASET))
    dataset = hashes[start : start + DATASET]
    scattered = sorted(hashes[i] for i in rng.choice(n, DATASET, replace=False))
    mixing = rng.standard_normal((FACTORS, dim), dtype=np.float32)
    noise = rng.standard_normal((SEGMENT_ROWS, dim), dtype=np.float32)
    seconds: dict[str, list[float]] = {}
    raw = 4 * n * dim * extractors
    before_rows = peak_bytes()
    for number in range(extractors):
        key = StoreKey(DEFAULT_PROJECT, f"{number:064x}")
        spent = 0.0
        for first in range(0, n, SEGMENT_ROWS):
            part = hashes[first : first + SEGMENT_ROWS]
            rows = features(rng, mixing, noise, len(part))
            with clock() as passed:
                store.put(key, part, rows)
            spent += passed()
        seconds.setdefault("put", []).append(spent)
    peak_put = peak_bytes()
    keys = [StoreKey(DEFAULT_PROJECT, f"{number:064x}") for number in range(min(extractors, ROUNDS))]
    npy = folder / "dataset.npy"
    np.save(npy, store.get(keys[0], dataset))
    with clock() as passed:
        missing = [store.missing(key, hashes) for key in keys]
    seconds["missing, all"] = [passed() / len(keys)]
    assert not any(missing)
    seconds["np.load of 10,000"] = rounds(lambda: np.load(npy))
    reads: list[tuple[str, Callable[[], Rows]]] = [
        ("get 10,000", lambda: store.get(keys[0], dataset)),
        ("get 10,000 of everywhere", lambda: store.get(keys[0], scattered)),
        ("get 10,000, opened anew", lambda: fresh(store, database).get(keys[0], dataset)),
    ]
    for name, read in reads:
        seconds[name] = rounds(read)
    disk = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file != npy)
    queries = store.get(keys[0], dataset[:QUERIES])
    for name, base in (("kNN among 10,000", dataset), (f"kNN among {n:,}", hashes)):
        seconds[name] = rounds(lambda base=base: store.search(keys[0], base, queries, 10, metric="cosine"), 3)
    peak_all = peak_bytes()
    with clock() as passed:
        merged = upkeep.compact(store, database, DEFAULT_PROJECT, lambda done, total: None)
    seconds["merge"] = [passed()]
    for name, read in reads:
        seconds[f"{name}, merged"] = rounds(read)
    peak_merge = peak_bytes()
    index = by_index(folder, store, database, keys[0], hashes, queries) if n > derived.INDEX_ROWS else None
    database.dispose()
    shutil.rmtree(folder / "segments")
    return {
        "extractors": extractors,
        "rows": n,
        "dim": dim,
        "storage": storage,
        "seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "put_rows_per_second": n / statistics.median(seconds["put"]),
        "get_over_npy": {
            name: statistics.median(seconds[name]) / statistics.median(seconds["np.load of 10,000"])
            for name in seconds
            if name.startswith("get")
        },
        "index": index,
        "bytes_on_disk_over_raw": disk / raw,
        "segments": {"before": merged.segments_before, "merged": merged.segments_after},
        "peak_bytes": {
            "interpreter": before_rows,
            "put": peak_put,
            "get and kNN": peak_all,
            "merge": peak_merge,
            "index": peak_bytes(),
        },
    }


def features(rng: np.random.Generator, mixing: Rows, noise: Rows, n: int) -> Rows:
    """Rows of a few factors and some noise, in a hundred classes: neighbours of pure noise would mean nothing."""
    factors = np.random.default_rng(1).standard_normal((100, FACTORS), dtype=np.float32)[rng.integers(100, size=n)]
    factors += rng.standard_normal((n, FACTORS), dtype=np.float32)
    rows: Rows = factors @ mixing
    rows += np.roll(noise, int(rng.integers(noise.shape[1])), axis=1)[:n]
    return rows


def by_index(
    folder: Path, store: SegmentStore, database: Database, key: StoreKey, hashes: list[bytes], queries: Rows
) -> dict[str, Any]:
    """What many questions to many rows cost, and how many of the true neighbours they find."""
    asking = SegmentStore(store.files, database, derived_root=folder / "derived")
    many = store.get(key, hashes[: derived.WORTH_MAKING_PAIRS // len(hashes) + 1])
    with clock() as passed:
        first = asking.search(key, hashes, many, 10, metric="cosine")
    with clock() as again:
        asking.search(key, hashes, many, 10, metric="cosine")
    found = asking.search(key, hashes, queries, 10, metric="cosine")
    true = store.search(key, hashes, queries, 10, metric="cosine")
    same = [len(set(a) & set(b)) / 10 for a, b in zip(found.positions.tolist(), true.positions.tolist(), strict=True)]
    return {
        "name": first.index,
        "questions": len(many),
        "made_seconds": passed() - again(),
        "questions_per_second": len(many) / again(),
        "recall_at_10": float(np.mean(same)),
        "bytes_over_raw": sum(f.stat().st_size for f in (folder / "derived").rglob("*.ivf")) / (4 * len(hashes) * 768),
    }


def as_text(measured: dict[str, Any]) -> str:
    seconds, index, over_npy = measured["seconds"], measured["index"], measured["get_over_npy"]
    among = f"kNN among {measured['rows']:,}"
    peaks = ", ".join(f"{name} {value / 1e6:,.0f}" for name, value in measured["peak_bytes"].items())
    table = [
        ("put", f"{measured['put_rows_per_second']:,.0f} rows/s"),
        ("missing, all of one extractor", f"{seconds['missing, all'] * 1e3:.0f} ms"),
        ("np.load of 10,000", f"{seconds['np.load of 10,000'] * 1e3:.1f} ms"),
        *((name, f"{seconds[name] * 1e3:.1f} ms, {times:.2f} x np.load") for name, times in over_npy.items()),
        *((name, f"{QUERIES / seconds[name]:,.0f} queries/s") for name in ("kNN among 10,000", among)),
        ("bytes on disk over raw float32", f"{measured['bytes_on_disk_over_raw']:.4f}"),
        (
            "merging",
            f"{measured['segments']['before']} into {measured['segments']['merged']}, {seconds['merge']:.1f} s",
        ),
        ("peak memory, MB", peaks),
    ]
    if index:
        rate, recall = index["questions_per_second"], index["recall_at_10"]
        table.append((index["name"], f"{rate:,.0f} queries/s, recall@10 {recall:.4f}"))
        table.append(("making it", f"{index['made_seconds']:.0f} s, {index['bytes_over_raw']:.3f} of the raw bytes"))
    size = f"{measured['rows']:,} embeddings x {measured['dim']} x {measured['extractors']} extractors"
    return "\n".join([f"{size}, {measured['storage']}; k = 10, cosine", *(f"{a:<34}{b}" for a, b in table)])


def fresh(store: SegmentStore, database: Database) -> SegmentStore:
    return SegmentStore(store.files, database)


def rounds(work: Callable[[], object], count: int = ROUNDS) -> list[float]:
    work()
    found = []
    for _ in range(count):
        with clock() as passed:
            work()
        found.append(passed())
    return found


@contextmanager
def clock() -> Iterator[Callable[[], float]]:
    start = time.perf_counter()
    end: list[float] = []
    yield lambda: end[0]
    end.append(time.perf_counter() - start)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
