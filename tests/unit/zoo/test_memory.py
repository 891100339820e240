"""What a forward pass is said to take is what its tensors take."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef
from zoo.extract import Extractor, load
from zoo.libraries import timm
from zoo.memory import forward_bytes, most_alive

ROWS = 1000
EACH = 4 * ROWS * ROWS


def test_what_is_gone_and_what_was_there_are_not_counted() -> None:
    given = torch.ones(ROWS, ROWS)

    def run() -> torch.Tensor:
        first = given + 1
        second = first.relu_().t() * 2  # in place and as a view: nothing new but the product
        del first
        return second + 1

    assert most_alive(run) == 2 * EACH
    with torch.inference_mode():
        assert most_alive(run) == 2 * EACH
    assert most_alive(lambda: given.t()[:10]) == 0


def test_a_larger_input_takes_more_beside_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(timm().create_model("test_resnet", pretrained=False).state_dict(), path)

    def loaded(side: int) -> Extractor:
        config = PreprocessConfig(input_size=(3, side, side))
        weights = WeightsRef(uri=f"file:{path}")
        card = ModelCard(
            name="mine", library="timm", architecture="test_resnet", tag="mine", weights=weights, preprocess=config
        )
        return load(card, device="cpu", cache_dir=tmp_path)

    small, large = loaded(32), loaded(64)
    beside = [forward_bytes(found) - found.weight_bytes for found in (small, large)]
    assert beside[0] > 3 * 4 * 32 * 32
    assert 3 * beside[0] < beside[1] < 4.5 * beside[0]
