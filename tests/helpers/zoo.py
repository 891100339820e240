"""A zoo of real architectures with random weights, small enough to run in milliseconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

INPUT_SIZE = 32


@dataclass(frozen=True)
class TinyModel:
    """What `POST /v1/models` takes, and the file that it names."""

    name: str
    architecture: str
    path: Path
    match: str = "name"

    def request(self, **changes: Any) -> dict[str, Any]:
        return {
            "name": self.name,
            "architecture": self.architecture,
            "weights": f"file:{self.path}",
            "input_size": INPUT_SIZE,
            "crop_pct": 1.0,
            **changes,
        }


@dataclass(frozen=True)
class TinyZoo:
    good: tuple[TinyModel, ...]
    wrong: TinyModel  # tensors of another architecture
    truncated: TinyModel  # half a file
    missing: TinyModel  # no file

    @property
    def names(self) -> list[str]:
        return [model.name for model in self.good]


def make_zoo(folder: Path, /) -> TinyZoo:
    import torch
    from safetensors.torch import save_file

    from zoo.libraries import timm

    def saved(name: str, architecture: str, *, seed: int, classes: int) -> TinyModel:
        torch.manual_seed(seed)
        module = timm().create_model(architecture, pretrained=False, num_classes=classes)
        path = folder / f"{name}.safetensors"
        save_file(module.state_dict(), path)
        return TinyModel(name, architecture, path)

    residual = saved("tiny_resnet.a", "test_resnet", seed=1, classes=7)
    good = (
        residual,
        saved("tiny_resnet.b", "test_resnet", seed=2, classes=0),
        saved("tiny_efficientnet.a", "test_efficientnet", seed=3, classes=0),
    )
    half = folder / "half.safetensors"
    half.write_bytes(residual.path.read_bytes()[:10_000])
    return TinyZoo(
        good=good,
        wrong=TinyModel("tiny_wrong.a", "test_efficientnet", residual.path),
        truncated=TinyModel("tiny_half.a", "test_resnet", half),
        missing=TinyModel("tiny_missing.a", "test_resnet", folder / "nowhere.safetensors"),
    )
