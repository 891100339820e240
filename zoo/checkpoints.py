"""Reads a weights file as a table of tensors, without running anything that it may contain."""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch

from zoo.errors import CorruptCheckpoint, UnsafeCheckpoint, WeightsNotFound

StateDict = dict[str, torch.Tensor]

_DAMAGES = (
    *(RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, AssertionError),
    *(struct.error, zipfile.BadZipFile, NotImplementedError, OverflowError),
)
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")


def checkpoint_format(path: Path, /) -> Literal["safetensors", "torch"]:
    """Tells the format by content, never by suffix. Raises UnsafeCheckpoint for every other."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightsNotFound(str(path), reason=error.strerror or str(error)) from error
    # The length of a safetensors header can begin with a pickle's first byte, so it is looked at first.
    if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        return "torch"
    raise UnsafeCheckpoint(f"{path.name} is neither a safetensors file nor a PyTorch checkpoint")


def check(path: Path, /) -> None:
    """Raises what `load_state_dict` would, before another library is let near the file.

    A safetensors file holds no code, so its header alone is read: that is where a truncated file shows.
    """
    match checkpoint_format(path):
        case "safetensors":
            try:
                with safetensors.safe_open(path, framework="pt"):
                    pass
            except (safetensors.SafetensorError, OSError) as error:
                raise CorruptCheckpoint(f"{path.name} is a damaged safetensors file: {error}") from error
        case "torch":
            load_state_dict(path)


def load_state_dict(path: Path, /) -> StateDict:
    """The tensors of a checkpoint by name, floating ones as float32.

    PyTorch checkpoints are read with `weights_only=True`. Wrappers ({"state_dict": ...}, {"model": ...}) and prefixes
    that every key carries (`module.`) are taken off.

    Raises:
        UnsafeCheckpoint: reading it would need code from the file, or it is of another format.
        CorruptCheckpoint: truncated, damaged, or no table of tensors.
        WeightsNotFound: no such file.
    """
    match checkpoint_format(path):
        case "safetensors":
            try:
                table: Any = safetensors.torch.load_file(path, device="cpu")
            except (safetensors.SafetensorError, ValueError, OSError) as error:
                raise CorruptCheckpoint(f"{path.name} is a damaged safetensors file: {error}") from error
        case "torch":
            table = _load_torch(path)
    return {key: _float32(value) for key, value in _strip(_unwrap(table, path), path).items()}


def _load_torch(path: Path, /) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
            if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
                raise UnsafeCheckpoint(f"{path.name} is a TorchScript program, which holds code; export its state_dict")
        # An open file, for torch.load would choose another reader by the suffix of a path.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning about the pickle's protocol; what it holds is judged below
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "Unsupported" in text or "GLOBAL" in text or "allowlist" in text or "not allowed" in text:
            raise UnsafeCheckpoint(
                f"{path.name} is a pickle that needs more than tensors and so could run code; save its state_dict alone"
            ) from error
        raise CorruptCheckpoint(f"{path.name} is a damaged PyTorch checkpoint") from error
    except _DAMAGES as error:
        raise CorruptCheckpoint(f"{path.name} is a damaged PyTorch checkpoint: {type(error).__name__}") from error


def _unwrap(table: Any, path: Path, /) -> Mapping[str, Any]:
    for wrapper in _WRAPPERS:
        if isinstance(table, Mapping) and isinstance(table.get(wrapper), Mapping):
            table = table[wrapper]
            break
    if not isinstance(table, Mapping) or not table:
        raise CorruptCheckpoint(f"{path.name} holds no table of tensors")
    return table


def _strip(table: Mapping[str, Any], path: Path, /) -> StateDict:
    odd = [key for key, value in table.items() if not isinstance(key, str) or not isinstance(value, torch.Tensor)]
    if odd:
        raise CorruptCheckpoint(f"{path.name} holds {odd[0]!r}, which is no tensor; save its state_dict alone")
    stripped = dict(table)
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in stripped):
            stripped = {key.removeprefix(prefix): value for key, value in stripped.items()}
    return stripped


def _float32(tensor: torch.Tensor, /) -> torch.Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor
