"""The pipeline on a CUDA device gives what a CPU gives, whatever fits the device."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.compute.batches import measured
from service.compute.embedding import Embedded, embed_group
from service.compute.streams import Limits
from service.embeddings.memory import MemoryStore
from service.embeddings.model import StoreKey
from service.jobs.fate import Cause
from tests.data.pictures import picture
from tests.helpers.zoo import TinyZoo
from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef
from zoo.extract import Extractor, load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
PICTURES = {hashlib.sha256(data).digest(): data for data in (picture(i, size=(40, 50)) for i in range(37))}


def loaded(zoo: TinyZoo, cache: Path, device: str) -> dict[str, Extractor]:
    config = PreprocessConfig(input_size=(3, 32, 32), crop_pct=1.0)
    return {
        m.name: load(
            ModelCard(
                name=m.name,
                library="timm",
                architecture=m.architecture,
                tag="x",
                weights=WeightsRef(uri=f"file:{m.path}"),
                preprocess=config,
            ),
            device=device,
            cache_dir=cache,
        )
        for m in zoo.good
    }


def embedded(extractors: dict[str, Extractor], store: MemoryStore, device: str, batch: int) -> Embedded:
    return embed_group(
        extractors,
        list(PICTURES),
        project_id="p",
        store=store,
        read_blob=PICTURES.__getitem__,
        batch_size=lambda _: batch,
        limits=Limits(threads=4, pixel_bytes=1 << 24, feature_bytes=1 << 24, segment_rows=10),
        device=torch.device(device),
        progress=lambda _: None,
        cancelled=lambda: False,
    )


def rows(extractors: dict[str, Extractor], device: str, batch: int) -> dict[str, Any]:
    store = MemoryStore()
    outcome = embedded(extractors, store, device, batch)
    assert outcome.failed == {}
    assert all(rate > 0 for rate in outcome.images_per_second.values())
    return {name: store.get(StoreKey("p", e.extractor_id), list(PICTURES)) for name, e in extractors.items()}


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_features_are_those_of_a_cpu(tiny_zoo: TinyZoo, tmp_path: Path, batch: int) -> None:
    there = rows(loaded(tiny_zoo, tmp_path, "cuda:0"), "cuda:0", batch)
    here = rows(loaded(tiny_zoo, tmp_path, "cpu"), "cpu", 4)
    for name, wanted in here.items():
        assert (np.linalg.norm(there[name] - wanted, axis=1) / np.linalg.norm(wanted, axis=1)).max() < 1e-4


def test_a_full_device_halves_the_batch(tiny_zoo: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractors = loaded(tiny_zoo, tmp_path, "cuda:0")
    wanted = rows(extractors, "cuda:0", 4)
    launch = Extractor.launch

    def full(self: Extractor, pixels: torch.Tensor, /) -> Any:
        if len(pixels) > 3:
            torch.empty(1 << 50, dtype=torch.uint8, device=self.device)  # the device refuses it by itself
        return launch(self, pixels)

    monkeypatch.setattr(Extractor, "launch", full)
    for name, found in rows(extractors, "cuda:0", 32).items():
        assert (np.linalg.norm(found - wanted[name], axis=1) / np.linalg.norm(wanted[name], axis=1)).max() < 1e-5


def test_the_batch_is_found_by_measurement(tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    extractor = next(iter(loaded(tiny_zoo, tmp_path, "cuda:0").values()))
    assert measured(extractor, largest=64) in {8, 16, 32, 64}


def test_a_model_that_fails_is_dropped_with_its_own_reason(
    tiny_zoo: TinyZoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractors = loaded(tiny_zoo, tmp_path, "cuda:0")
    bad = next(iter(extractors))
    launch = Extractor.launch

    def full(self: Extractor, pixels: torch.Tensor, /) -> Any:
        if self is extractors[bad]:
            torch.empty(1 << 50, dtype=torch.uint8, device=self.device)
        return launch(self, pixels)

    monkeypatch.setattr(Extractor, "launch", full)
    outcome = embedded(extractors, MemoryStore(), "cuda:0", 4)
    assert list(outcome.failed) == [bad]
    assert outcome.failed[bad].startswith("OutOfMemoryError")
    assert outcome.causes[bad] is Cause.OUT_OF_MEMORY
