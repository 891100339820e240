"""Fine-tuning on a CUDA device reaches what it reaches on a CPU."""

from pathlib import Path

import pytest
import torch

from service.compute.finetuning import Outcome, Sets, measure
from service.compute.training import Images, Recipe
from tests.helpers.zoo import TinyZoo
from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
RECIPE = Recipe(id="test", side=32, epochs=3, rates=(1e-3,))


def stripes(count: int, seed: int) -> Images:
    """Noise with stripes across, along or not at all."""
    dice = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 160, (count, 3, 32, 32), generator=dice)
    images[labels == 1, :, ::4] += 60
    images[labels == 2, :, :, ::4] += 60
    return Images(images.to(torch.uint8), labels)


def outcome(zoo: TinyZoo, cache: Path, device: str) -> Outcome:
    model = zoo.good[0]
    card = ModelCard(
        name=model.name,
        library="timm",
        architecture=model.architecture,
        tag="x",
        weights=WeightsRef(uri=f"file:{model.path}"),
        preprocess=PreprocessConfig(input_size=(3, 32, 32), crop_pct=1.0),
    )
    data = Sets(stripes(90, 0), stripes(60, 1), 3, "the test split", sampled=False)
    return measure(card, data, RECIPE, device=torch.device(device), cache_dir=cache)


def test_a_model_reaches_what_it_reaches_on_a_cpu(tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    there, here = (outcome(tiny_zoo, tmp_path, device) for device in ("cuda:0", "cpu"))
    assert there.probe == pytest.approx(here.probe, abs=0.05)
    assert there.chosen.validation[0] == pytest.approx(here.chosen.validation[0], abs=0.1)
    assert there.chosen.validation_loss == pytest.approx(here.chosen.validation_loss, rel=0.1)
    assert there.accuracy == pytest.approx(here.accuracy, abs=0.1)
