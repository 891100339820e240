"""Rows as moments take them in: what a batch must be, and which rows are left once some are taken away."""

import torch
from torch import Tensor

from estimators.errors import InvalidInput

_CHUNK = 2048
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_batch(features: Tensor, labels: Tensor, /) -> None:
    """Raise InvalidInput unless features are `[n, D]`, n and D > 0, with integer labels `[n]`."""
    if features.ndim != 2 or labels.ndim != 1 or features.shape[0] != labels.shape[0] or not features.shape[1]:
        raise InvalidInput(
            f"features must be [N, D] and labels [N], got {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if features.dtype not in _FLOATS:
        raise InvalidInput(f"features must be floating point, got {features.dtype}")
    if labels.dtype.is_floating_point or labels.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise InvalidInput(f"class labels must be integers, got {labels.dtype}")
    if not features.shape[0]:
        raise InvalidInput("an empty batch has no moments")


def class_sums(features: Tensor, positions: Tensor, shift: Tensor, n_classes: int, /) -> tuple[Tensor, Tensor]:
    """Sums of `x - shift` and of their squares `[C, D]` float64 over the rows at each class position `[N]`."""
    sums = torch.zeros(n_classes, features.shape[1], dtype=torch.float64, device=features.device)
    squares = torch.zeros_like(sums)
    for start in range(0, features.shape[0], _CHUNK):
        part = slice(start, start + _CHUNK)
        x = features[part].to(torch.float64) - shift
        sums.index_add_(0, positions[part], x)
        squares.index_add_(0, positions[part], x.square_())
    return sums, squares


def rows_left(rows: Tensor, row_labels: Tensor, gone: Tensor, gone_labels: Tensor, /) -> Tensor:
    """Mask of the rows of a set that remain once the rows of a subset are taken out, each as often as it occurs."""
    taken: dict[tuple[int, bytes], int] = {}
    removed = gone.to(rows.dtype).cpu().numpy()
    for label, row in zip(gone_labels.tolist(), removed, strict=True):
        key = (label, row.tobytes())
        taken[key] = taken.get(key, 0) + 1
    mask = []
    for label, row in zip(row_labels.tolist(), rows.cpu().numpy(), strict=True):
        key = (label, row.tobytes())
        left = taken.get(key, 0)
        mask.append(left == 0)
        if left:
            taken[key] = left - 1
    if any(taken.values()):
        raise InvalidInput("cannot subtract rows that are not there")
    return torch.tensor(mask, device=rows.device)


def positions_among(of: tuple[int, ...], among: tuple[int, ...], like: Tensor, /) -> Tensor:
    """Where each of some class ids stands among others `[C]`, on the device of `like`."""
    index = {label: i for i, label in enumerate(among)}
    return torch.tensor([index[label] for label in of], dtype=torch.int64, device=like.device)
