import pytest
import torch

from zoo.errors import WeightsMismatch
from zoo.matching import apply, head_classes, without_head


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 1)
        self.bn = torch.nn.BatchNorm2d(4)
        self.fc = torch.nn.Linear(4, 2)


def source() -> dict[str, torch.Tensor]:
    net = Net()
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value))
    return net.state_dict()


def foreign(table: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Other names, same order, no batch counters."""
    kept = {k: v for k, v in table.items() if "batches" not in k}
    return {f"layer{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(kept.items())}


@pytest.mark.parametrize("counters", [True, False])
def test_by_name_fills_everything(counters: bool) -> None:
    table = {k: v for k, v in source().items() if counters or "batches" not in k}
    net = Net()
    apply(net, table, match="name", architecture="net")
    assert all(torch.equal(net.state_dict()[k], v) for k, v in table.items() if "batches" not in k)


def test_by_order_fills_everything() -> None:
    table, net = source(), Net()
    apply(net, foreign(table), match="order", architecture="net")
    assert all(torch.equal(net.state_dict()[k], v) for k, v in table.items() if "batches" not in k)


def test_float16_is_cast() -> None:
    table, net = {k: v.half() if v.is_floating_point() else v for k, v in source().items()}, Net()
    apply(net, table, match="name", architecture="net")
    assert net.conv.weight.dtype == torch.float32


def untouched(net: Net, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("match", ["name", "order"])
@pytest.mark.parametrize("key", ["conv.weight", "bn.running_var", "fc.bias"])
def test_a_missing_tensor_is_named_and_nothing_is_filled(match: str, key: str) -> None:
    net = Net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    table = source()
    table.pop(key)
    with pytest.raises(WeightsMismatch) as caught:
        apply(net, table if match == "name" else foreign(table), match=match, architecture="net")  # type: ignore[arg-type]
    if match == "name":
        assert caught.value.missing == (key,)
        assert key in str(caught.value)
    assert untouched(net, before)


def test_an_unexpected_tensor_and_another_shape_are_named() -> None:
    net, table = Net(), source()
    with pytest.raises(WeightsMismatch, match=r"1 unexpected \(extra\)"):
        apply(net, table | {"extra": torch.ones(1)}, match="name", architecture="net")
    with pytest.raises(WeightsMismatch, match=r"fc\.bias \(3,\) for \(2,\)"):
        apply(net, table | {"fc.bias": torch.ones(3)}, match="name", architecture="net")


def test_in_order_a_weight_never_becomes_a_mean() -> None:
    items = list(foreign(source()).items())
    names = [name for name, _ in items]
    mean, weight = (next(i for i, n in enumerate(names) if n.endswith(e)) for e in ("running_mean", "2.weight"))
    items[mean], items[weight] = items[weight], items[mean]
    with pytest.raises(WeightsMismatch, match="would become"):
        apply(Net(), dict(items), match="order", architecture="net")


def test_in_order_a_negative_variance_gives_the_swap_away_where_names_do_not() -> None:
    table = {f"t{i}": value for i, value in enumerate(foreign(source()).values())}
    table["t5"] = -table["t5"]
    with pytest.raises(WeightsMismatch, match="negative variance in t5"):
        apply(Net(), table, match="order", architecture="net")


def test_in_order_a_surplus_tensor_is_named() -> None:
    with pytest.raises(WeightsMismatch, match="surplus"):
        apply(Net(), foreign(source()) | {"surplus": torch.ones(1)}, match="order", architecture="net")


def test_the_head_is_found_and_left_out() -> None:
    table = source()
    assert head_classes(table, ["fc"]) == 2
    assert head_classes(table, ["head", "head_dist"]) == 0
    assert set(table) - set(without_head(table, ["fc"])) == {"fc.weight", "fc.bias"}
    assert without_head(table, []) == table
