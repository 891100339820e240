"""Linear algebra that the estimators share: Gram matrices and shifted systems solved without eigenvectors."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import blas, eigh_tridiagonal, lapack
from torch import Tensor

from estimators.errors import Degenerate

_CHUNK = 2048
_TILE = 256


def gram(rows: Tensor, shift: Tensor, /) -> Tensor:
    """Sum of `(x - shift)(x - shift)^T` over rows `[N, D]`, float64."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[0], _CHUNK):
        add_gram(total, rows[start : start + _CHUNK].to(torch.float64) - shift)
    return symmetrise(total)


def add_gram(total: Tensor, rows: Tensor, /) -> None:
    """Add X^T X of float64 rows to the lower triangle of `total`; `symmetrise` it when all is added.

    On the CPU only that triangle is computed (BLAS `syrk`): half the work of a general product.
    """
    if rows.device.type != "cpu":
        total.addmm_(rows.T, rows)
        return
    rows = rows.contiguous()
    # the transpose of a C-ordered matrix is what BLAS calls a matrix: its upper triangle is our lower one
    target = total.numpy().T
    result = blas.dsyrk(1.0, rows.numpy().T, beta=1.0, c=target, overwrite_c=1)
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


class ShiftedForm:
    """A symmetric positive semi-definite matrix prepared for many shifted systems `(A + shift I) x = b`.

    On the CPU the matrix is brought to tridiagonal form, `A = Q T Q^T`: a fraction of the cost of its eigenvectors,
    after which each shift costs O(r) a right-hand side. Elsewhere the eigenvectors are computed: a tridiagonal form
    with nothing beside the diagonal.
    """

    def __init__(self, matrix: Tensor, /) -> None:
        """Factor a symmetric `[r, r]` float64 matrix (left unchanged)."""
        self._device = matrix.device
        self._vectors: Tensor | None = None
        if matrix.device.type != "cpu":
            self._values, self._vectors = torch.linalg.eigh(matrix)
            self.norm = float(self._values.abs().max())
            return
        a = matrix.numpy().T
        if matrix.shape[0] == 1:
            self._d, self._e = a[0].copy(), np.zeros(0)
        else:
            work = int(lapack.dsytrd_lwork(a.shape[0], lower=1)[0])
            self._reflectors, self._d, self._e, self._tau, info = lapack.dsytrd(a, lower=1, lwork=work)
            if info:
                raise Degenerate("the scatter of the features could not be brought to tridiagonal form")
        e = np.abs(self._e)
        self.norm = float(np.max(np.abs(self._d) + np.append(e, 0.0) + np.append(0.0, e)))

    @property
    def size(self) -> int:
        """Number of rows r."""
        return int(self._values.shape[0] if self._vectors is not None else self._d.shape[0])

    def rotate(self, columns: Tensor, /) -> Tensor:
        """`Q^T B` for columns `[r, m]`: right-hand sides in the basis in which `solve` works."""
        return self._apply(columns, transposed=True)

    def unrotate(self, rotated: Tensor, /) -> Tensor:
        """`Q B` for rotated columns `[r, m]`: the inverse of `rotate`."""
        return self._apply(rotated, transposed=False)

    def _apply(self, columns: Tensor, *, transposed: bool) -> Tensor:
        if self._vectors is not None:
            turned: Tensor = (self._vectors.T if transposed else self._vectors) @ columns
            return turned
        b = np.array(columns.numpy(), order="F")
        if self.size > 1:
            lower, work = self._reflectors[1:, :-1], max(1, 64 * b.shape[1])
            b[1:] = lapack.dormqr("L", "T" if transposed else "N", lower, self._tau, b[1:], work)[0]
        return torch.from_numpy(b)

    def solve(self, rotated: Tensor, shift: float, /) -> tuple[Tensor, float]:
        """`(T + shift I)^-1 B` for rotated columns `[r, m]`, and `log det (A + shift I)`."""
        if self._vectors is not None:
            values = self._values.clamp_min(0.0) + shift
            return rotated / values[:, None], float(values.log().sum())
        d, _, x, info = lapack.dptsv(np.maximum(self._d, 0.0) + shift, self._e, rotated.numpy())
        if info:
            raise Degenerate("the scatter of the features is not positive definite at the working precision")
        return torch.from_numpy(x), float(np.log(d).sum())

    def eigenvalues(self) -> Tensor:
        """All eigenvalues, ascending, rounding below zero cut off."""
        if self._vectors is not None:
            cut: Tensor = self._values.clamp_min(0.0)
            return cut
        if self.size == 1:
            return torch.from_numpy(np.maximum(self._d, 0.0))
        values = eigh_tridiagonal(self._d, self._e, eigvals_only=True, lapack_driver="sterf", check_finite=False)
        return torch.from_numpy(np.maximum(values, 0.0))
