"""The three stages on real models: what they store, what they hold in memory, how they stop and how they fail."""

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from service.compute import pipeline
from service.compute.embedding import Embedded, Progress, embed_group
from service.compute.streams import Limits
from service.core.errors import Cancelled
from service.embeddings.memory import MemoryStore
from service.embeddings.model import Kind, StoreKey
from service.embeddings.protocol import Rows
from tests.data.pictures import picture
from tests.helpers.zoo import TinyZoo
from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef
from zoo.errors import BadImage
from zoo.extract import Extractor, load
from zoo.libraries import timm
from zoo.preprocess import decode, prepare

CPU = torch.device("cpu")
LIMITS = Limits(threads=2, pixel_bytes=1 << 26, feature_bytes=1 << 26, segment_rows=1000)
PICTURES = {hashlib.sha256(data).digest(): data for data in (picture(i, size=(40 + i, 50)) for i in range(11))}


def card(name: str, architecture: str, weights: Path, **preprocess: Any) -> ModelCard:
    config = PreprocessConfig(**{"input_size": (3, 32, 32), "crop_pct": 1.0, **preprocess})
    reference = WeightsRef(uri=f"file:{weights}")
    return ModelCard(
        name=name, library="timm", architecture=architecture, tag="x", weights=reference, preprocess=config
    )


@pytest.fixture
def extractors(tiny_zoo: TinyZoo, tmp_path: Path) -> dict[str, Extractor]:
    """Two models of one signature, and a third of another."""
    changes: tuple[dict[str, Any], ...] = ({}, {}, {"crop_pct": 0.8})
    return {
        model.name: load(
            card(model.name, model.architecture, model.path, **more), device="cpu", cache_dir=tmp_path / "weights"
        )
        for model, more in zip(tiny_zoo.good, changes, strict=True)
    }


@dataclass
class Job:
    """`embed_group` with what a test does not look at filled in."""

    extractors: Mapping[str, Extractor]
    pictures: Mapping[bytes, bytes] = field(default_factory=lambda: PICTURES)
    store: Any = field(default_factory=MemoryStore)
    limits: Limits = LIMITS
    batch: int = 4
    cancelled: Callable[[], bool] = lambda: False
    reads: Counter[bytes] = field(default_factory=Counter)
    told: list[Progress] = field(default_factory=list)

    def run(self) -> Embedded:
        return embed_group(
            self.extractors,
            list(self.pictures),
            project_id="p",
            store=self.store,
            read_blob=self._read,
            batch_size=lambda _: self.batch,
            limits=self.limits,
            device=CPU,
            progress=self.told.append,
            cancelled=self.cancelled,
        )

    def _read(self, value: bytes) -> bytes:
        self.reads[value] += 1
        return self.pictures[value]

    def rows(self, model: str, kind: Kind = Kind.FEATURES) -> Rows:
        key = StoreKey("p", self.extractors[model].extractor_id, kind)
        return self.store.get(key, list(self.pictures))  # type: ignore[no-any-return]


def directly(extractor: Extractor) -> tuple[torch.Tensor, torch.Tensor | None]:
    return extractor.forward(
        torch.stack([prepare(decode(data), extractor.card.preprocess) for data in PICTURES.values()])
    )


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


def test_models_of_two_signatures_share_one_reading(extractors: dict[str, Extractor]) -> None:
    job = Job(extractors)
    outcome = job.run()
    assert outcome.failed == {}
    assert job.reads == Counter(dict.fromkeys(PICTURES, 1))
    assert len({e.card.preprocess.signature for e in extractors.values()}) == 2
    for name, extractor in extractors.items():
        features, probs = directly(extractor)
        assert relative(job.rows(name), features.numpy()) < 1e-5
        assert outcome.images_per_second[name] > 0
        if probs is not None:
            assert relative(job.rows(name, Kind.SOURCE_PROBS), probs.numpy()) < 1e-5
    assert extractors["tiny_resnet.a"].num_classes == 7


def test_progress_counts_pairs_and_times_every_stage(extractors: dict[str, Extractor]) -> None:
    job = Job(extractors)
    job.run()
    total = len(extractors) * len(PICTURES)
    assert (job.told[0].embedded, job.told[0].to_embed) == (0, total)
    assert (job.told[-1].embedded, job.told[-1].to_embed) == (total, total)
    assert [p.embedded for p in job.told] == sorted(p.embedded for p in job.told)
    assert job.told[-1].stage_seconds.keys() == {"decode", "forward", "write"}
    assert all(seconds > 0 for seconds in job.told[-1].stage_seconds.values())


def test_only_what_a_model_lacks_is_computed(extractors: dict[str, Extractor]) -> None:
    few = dict(list(PICTURES.items())[:5])
    first = {"tiny_resnet.a": extractors["tiny_resnet.a"]}
    job = Job(first, pictures=few)
    job.run()
    again = Job(extractors, store=job.store)
    again.run()
    assert again.told[-1].to_embed == 3 * len(PICTURES) - len(few)
    assert relative(again.rows("tiny_resnet.a"), directly(extractors["tiny_resnet.a"])[0].numpy()) < 1e-5
    nothing = Job(extractors, store=job.store)
    nothing.run()
    assert not nothing.reads


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (3, 2), (16, 3)])
def test_neither_batch_nor_threads_change_the_features(
    extractors: dict[str, Extractor], batch: int, threads: int
) -> None:
    job = Job(extractors, batch=batch, limits=replace(LIMITS, threads=threads))
    job.run()
    for name, extractor in extractors.items():
        assert relative(job.rows(name), directly(extractor)[0].numpy()) < 1e-5


def test_a_batch_that_does_not_fit_is_halved(extractors: dict[str, Extractor], monkeypatch: pytest.MonkeyPatch) -> None:
    launch, sizes = Extractor.launch, []

    def small_device(self: Extractor, pixels: torch.Tensor, /) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("as a device says it")
        return launch(self, pixels)

    monkeypatch.setattr(Extractor, "launch", small_device)
    job = Job(extractors, batch=8, limits=replace(LIMITS, threads=1))
    assert job.run().failed == {}
    monkeypatch.undo()
    for name, extractor in extractors.items():
        assert relative(job.rows(name), directly(extractor)[0].numpy()) < 1e-5
    assert sizes.count(8) == sizes.count(4) == len(extractors)  # halved for good


def test_a_model_that_fails_leaves_the_others_alone(
    extractors: dict[str, Extractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = Extractor.launch

    def broken(self: Extractor, pixels: torch.Tensor, /) -> Any:
        features, probs = launch(self, pixels)
        return (features * float("nan") if self.card.name == "tiny_resnet.b" else features), probs

    monkeypatch.setattr(Extractor, "launch", broken)
    job = Job(extractors, batch=2)
    outcome = job.run()
    assert list(outcome.failed) == ["tiny_resnet.b"]
    assert "not a number" in outcome.failed["tiny_resnet.b"]
    assert job.told[-1].embedded == job.told[-1].to_embed == 2 * len(PICTURES)
    assert job.rows("tiny_resnet.a").shape[0] == len(PICTURES)


def test_an_image_that_went_bad_is_named_and_nothing_hangs(extractors: dict[str, Extractor]) -> None:
    bad = next(iter(PICTURES))
    before = threading.active_count()
    with pytest.raises(BadImage, match=bad.hex()):
        Job(extractors, pictures=PICTURES | {bad: b"no image"}).run()
    assert threading.active_count() == before


def test_a_disk_that_is_full_ends_the_work(extractors: dict[str, Extractor]) -> None:
    class Full(MemoryStore):
        def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
            raise OSError(28, "No space left on device")

    before = threading.active_count()
    with pytest.raises(OSError, match="No space left"):
        Job(extractors, store=Full(), limits=replace(LIMITS, segment_rows=2)).run()
    assert threading.active_count() == before


def test_rows_wait_in_memory_up_to_the_limit(extractors: dict[str, Extractor]) -> None:
    class Counting(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.largest = 0

        def put(self, key: StoreKey, hashes: Sequence[bytes], rows: Rows, /) -> None:
            self.largest = max(self.largest, rows.nbytes)
            super().put(key, hashes, rows)

    one = {"tiny_resnet.b": extractors["tiny_resnet.b"]}
    row = 4 * extractors["tiny_resnet.b"].feature_dim
    store = Counting()
    job = Job(one, store=store, batch=1, limits=replace(LIMITS, threads=1, feature_bytes=3 * row))
    job.run()
    assert store.largest == 4 * row  # handed over by the row that passes the limit
    assert len(job.rows("tiny_resnet.b")) == len(PICTURES)


def test_decoded_images_wait_in_memory_up_to_the_limit(
    extractors: dict[str, Extractor], monkeypatch: pytest.MonkeyPatch
) -> None:
    side, alive, most = 600, 0, 0
    guard = threading.Lock()

    def counted(*given: Any, **options: Any) -> Image.Image:
        nonlocal alive, most
        image = decode(*given, **options)
        with guard:
            alive += 1
            most = max(most, alive)
        time.sleep(0.02)
        with guard:
            alive -= 1
        return image

    monkeypatch.setattr(pipeline, "decode", counted)
    data = [picture(i, kind="JPEG", size=(side, side)) for i in range(8)]
    pictures = {hashlib.sha256(d).digest(): d for d in data}
    one = {"tiny_resnet.b": extractors["tiny_resnet.b"]}
    # Half of it holds one image of 4 bytes a pixel, and not two.
    Job(one, pictures, limits=replace(LIMITS, threads=4, pixel_bytes=3 * 4 * side * side)).run()
    assert most == 1
    Job(one, pictures, limits=replace(LIMITS, threads=4, pixel_bytes=100)).run()  # larger than all there is
    assert most == 1
    Job(one, pictures, limits=replace(LIMITS, threads=4)).run()
    assert most > 1


def test_a_forward_pass_of_seconds_ends_within_half_a_second_of_being_cancelled(tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(timm().create_model("resnet50", num_classes=0).state_dict(), tmp_path / "w.safetensors")
    slow = load(
        card("slow", "resnet50", tmp_path / "w.safetensors", input_size=(3, 288, 288)), device="cpu", cache_dir=tmp_path
    )
    began = time.monotonic()
    told: list[float] = []

    def cancelled() -> bool:
        if time.monotonic() - began > 0.8:
            told.append(time.monotonic())
        return bool(told)

    data = [picture(i) for i in range(128)]
    job = Job({"slow": slow}, {hashlib.sha256(d).digest(): d for d in data}, batch=128, cancelled=cancelled)
    with pytest.raises(Cancelled):
        job.run()
    assert time.monotonic() - told[0] < 0.5
    assert job.told[-1].embedded == 0  # it was in its first pass, which takes many seconds
