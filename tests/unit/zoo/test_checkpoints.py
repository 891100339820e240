import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from zoo.checkpoints import load_state_dict
from zoo.errors import CorruptCheckpoint, UnsafeCheckpoint, WeightsNotFound, ZooError


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def tensors() -> dict[str, torch.Tensor]:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".bin", ""])
def test_the_content_and_not_the_suffix_tells_the_format(tmp_path: Path, suffix: str) -> None:
    a, b = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_file(tensors(), a)
    torch.save(tensors(), b)
    for path in (a, b):
        loaded = load_state_dict(path)
        assert loaded.keys() == tensors().keys()
        assert all(torch.equal(loaded[key], value) for key, value in tensors().items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda t: {"state_dict": t, "epoch": 3},
        lambda t: {"model": t, "args": {"lr": 0.1}},
        lambda t: {f"module.{k}": v for k, v in t.items()},
        lambda t: {"state_dict": {f"module.{k}": v for k, v in t.items()}},
        lambda t: {f"_orig_mod.{k}": v for k, v in t.items()},
    ],
)
def test_wrappers_and_prefixes_come_off(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(tensors()), tmp_path / "w.pth")
    assert load_state_dict(tmp_path / "w.pth").keys() == tensors().keys()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_tensors_become_float32_and_whole_ones_stay(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"w": torch.ones(2, dtype=dtype), "n": torch.tensor([1])}, tmp_path / "w.safetensors")
    loaded = load_state_dict(tmp_path / "w.safetensors")
    assert loaded["w"].dtype == torch.float32
    assert loaded["n"].dtype == torch.int64


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, old_format: bool) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": tensors(), "extra": Evil(marker)}, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(UnsafeCheckpoint, match="could run code"):
        load_state_dict(path)
    assert not marker.exists()


def test_a_bare_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Evil(marker)))
    with pytest.raises((UnsafeCheckpoint, CorruptCheckpoint)):
        load_state_dict(tmp_path / "evil.bin")
    assert not marker.exists()
    pickle.loads((tmp_path / "evil.bin").read_bytes())  # noqa: S301  (proves that the test's pickle is live)
    assert marker.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(UnsafeCheckpoint):
        load_state_dict(tmp_path / "module.pth")


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/code/__torch__.py", "x")
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(UnsafeCheckpoint, match="TorchScript"):
        load_state_dict(tmp_path / "script.pt")


@pytest.mark.parametrize("data", [b"", b"hello world", b"\x93NUMPY\x01\x00", b"<html>", b"version https://git-lfs"])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(UnsafeCheckpoint, match="neither"):
        load_state_dict(tmp_path / "w.safetensors")


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("safe", [True, False])
def test_truncated_files_are_refused(tmp_path: Path, keep: float, safe: bool) -> None:
    path = tmp_path / "w.safetensors"
    big = {"w": torch.rand(100, 10), "v": torch.rand(10)}
    if safe:
        save_file(big, path)
    else:
        torch.save(big, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises((CorruptCheckpoint, UnsafeCheckpoint)):
        load_state_dict(path)


def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [10**6], "data_offsets": [0, 4 * 10**6]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    with pytest.raises(CorruptCheckpoint):
        load_state_dict(tmp_path / "w.safetensors")


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {"a": torch.ones(1), "b": "text"}, torch.ones(2)])
def test_what_is_no_table_of_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CorruptCheckpoint):
        load_state_dict(tmp_path / "w.pth")


def test_every_damaged_byte_gives_an_error_of_the_zoo_or_a_table(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(tensors(), buffer)
    data = bytearray(buffer.getvalue())
    path = tmp_path / "w.pth"
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            assert isinstance(load_state_dict(path), dict)
        except ZooError:
            continue


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(WeightsNotFound):
        load_state_dict(tmp_path / "none.pth")
