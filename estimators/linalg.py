"""Gram matrices, half of them computed."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import blas
from torch import Tensor

_CHUNK = 2048
_TILE = 256


def gram(rows: Tensor, shift: Tensor, /) -> Tensor:
    """Sum of `(x - shift)(x - shift)^T` over rows `[N, D]`, float64."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[0], _CHUNK):
        add_gram(total, rows[start : start + _CHUNK].to(torch.float64, copy=True).sub_(shift))
    return symmetrise(total)


def add_gram(total: Tensor, rows: Tensor, sign: float = 1.0, /) -> None:
    """Add X^T X of float64 rows, times a sign, to the lower triangle of `total`; `symmetrise` it when all is added.

    On the CPU only that triangle is computed (BLAS `syrk`): half the work of a general product.
    """
    if rows.device.type != "cpu":
        total.addmm_(rows.T, rows, alpha=sign)
        return
    rows = rows.contiguous()
    # the transpose of a C-ordered matrix is what BLAS calls a matrix: its upper triangle is our lower one
    target = total.numpy().T
    result = blas.dsyrk(sign, rows.numpy().T, beta=1.0, c=target, overwrite_c=1)
    if result is not target:
        total.copy_(torch.from_numpy(np.ascontiguousarray(result.T)))


def symmetrise(total: Tensor, /) -> Tensor:
    """Copy the lower triangle of a matrix onto the upper one, in place, with no second matrix in memory."""
    size = total.shape[0]
    for start in range(0, size, _TILE):
        end = min(start + _TILE, size)
        block = total[start:end, start:end]
        block.copy_(block.tril() + block.tril(-1).T)
        total[start:end, end:] = total[end:, start:end].T
    return total
