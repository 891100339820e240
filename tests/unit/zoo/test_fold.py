"""Folding changes how a model is computed, never what."""

import torch
from torch import nn

from zoo.fold import folded
from zoo.libraries import timm


def run(module: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [module(inputs)]


def images(count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def with_statistics(module: nn.Module) -> nn.Module:
    """Statistics and weights unlike those of a new module, which would fold into nothing."""
    dice = torch.Generator().manual_seed(1)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean.normal_(generator=dice)
            child.running_var.uniform_(0.5, 2.0, generator=dice)
            nn.init.uniform_(child.weight, 0.5, 1.5, generator=dice)
            nn.init.normal_(child.bias, generator=dice)
    return module.eval().requires_grad_(requires_grad=False)


def norms(module: nn.Module) -> int:
    return sum(isinstance(child, nn.BatchNorm2d) for child in module.modules())


class Branching(nn.Module):
    """The convolution's output goes past its normalisation as well."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        raw = self.convolution(inputs)
        return (self.norm(raw) + raw).mean(dim=(2, 3))


def test_a_real_architecture_computes_the_same_without_its_normalisations() -> None:
    for name in ("test_resnet", "test_efficientnet"):
        torch.manual_seed(0)
        plain = with_statistics(timm().create_model(name, num_classes=5))
        small = folded(plain, run, images())
        assert norms(plain) > 0
        assert norms(small) == 0
        (a,), (b,) = run(plain, images(6, seed=2)), run(small, images(6, seed=2))
        assert ((a - b).norm(dim=1) / a.norm(dim=1)).max() < 1e-5


def test_the_module_given_stays_as_it_was() -> None:
    torch.manual_seed(0)
    plain = with_statistics(timm().create_model("test_resnet", num_classes=5))
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    folded(plain, run, images())
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())


def test_a_convolution_that_is_used_elsewhere_as_well_is_left_alone() -> None:
    torch.manual_seed(0)
    plain = with_statistics(Branching())
    assert folded(plain, run, images()) is plain


def test_a_convolution_that_normalises_its_weight_is_left_alone() -> None:
    torch.manual_seed(0)
    layers = timm().layers
    plain = with_statistics(nn.Sequential(layers.StdConv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AvgPool2d(30), nn.Flatten()))
    assert folded(plain, run, images()) is plain


def test_a_convolution_that_runs_twice_is_left_alone() -> None:
    torch.manual_seed(0)
    shared = nn.Conv2d(3, 3, 3, padding=1)
    plain = with_statistics(nn.Sequential(shared, nn.BatchNorm2d(3), shared, nn.BatchNorm2d(3)))
    assert folded(plain, run, images()) is plain
