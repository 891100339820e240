"""Linear algebra that the estimators share: Gram matrices and shifted systems solved without eigenvectors."""

from __future__ import annotations

import torch
from scipy.linalg import blas
from torch import Tensor

_CHUNK = 4096


def gram(rows: Tensor, shift: Tensor, /, *, out: Tensor | None = None) -> Tensor:
    """Sum of `(x - shift)(x - shift)^T` over rows `[N, D]`, float64, added to `out` where one is given.

    On the CPU only one triangle is computed (BLAS `syrk`): half the work of a general product.
    """
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device) if out is None else out
    if rows.device.type != "cpu":
        for start in range(0, rows.shape[0], _CHUNK):
            x = rows[start : start + _CHUNK].to(torch.float64) - shift
            total.addmm_(x.T, x)
        return total
    buffer = total.numpy().T  # Fortran order, as BLAS wants it; symmetric, so its transpose is itself
    for start in range(0, rows.shape[0], _CHUNK):
        x = rows[start : start + _CHUNK].to(torch.float64) - shift
        buffer = blas.dsyrk(1.0, x.numpy().T, beta=1.0, c=buffer, overwrite_c=1)
    lower = torch.from_numpy(buffer.T).tril_()
    diagonal = lower.diagonal().clone()
    lower += lower.T.clone()
    lower.diagonal().copy_(diagonal)
    return lower
