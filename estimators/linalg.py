"""Linear algebra that the estimators share: Gram matrices and shifted systems solved without eigenvectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import blas, eigh_tridiagonal, lapack
from torch import Tensor

from estimators.errors import Degenerate

_CHUNK = 2048
_TILE = 256
_SWEPT = 64  # columns from which rows are swept over all of them at once, in place of a solve a shift
_SWEPT_AT_ONCE = 2**14
_FLOAT32_ROUNDING = 2.0**-24
_LITTLE = 1e-3
_SMALL_SHIFT = 1e-9  # of the norm: below it the trace of the inverse is taken from eigenvalues


def gram(rows: Tensor, shift: Tensor, /) -> Tensor:
    """Sum of `(x - shift)(x - shift)^T` over rows `[N, D]`, float64."""
    total = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for start in range(0, rows.shape[0], _CHUNK):
        add_gram(total, rows[start : start + _CHUNK].to(torch.float64) - shift)
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


class ShiftedForm:
    """A symmetric positive semi-definite matrix prepared for many shifted systems `(A + shift I) x = b`.

    On the CPU the matrix is brought to tridiagonal form, `A = Q T Q^T`: a fraction of the cost of its eigenvectors,
    after which each shift costs O(r) a right-hand side. Elsewhere the eigenvectors are computed: a tridiagonal form
    with nothing beside the diagonal.
    """

    def __init__(self, matrix: Tensor, /, *, rough: bool = False) -> None:
        """Factor a symmetric `[r, r]` float64 matrix (left unchanged).

        `rough` reduces it in float32, on the CPU: half the cost, and good enough beside a standard error where
        `resolves` says so.
        """
        self._device = matrix.device
        self._rough = rough and matrix.device.type == "cpu"
        self._vectors: Tensor | None = None
        if matrix.device.type != "cpu":
            self._values, self._vectors = torch.linalg.eigh(matrix)
            self.norm = float(self._values.abs().max())
            return
        a = (matrix.to(torch.float32) if self._rough else matrix).numpy().T
        if matrix.shape[0] == 1:
            self._d, self._e = matrix.numpy()[0].copy(), np.zeros(0)
        else:
            length, reduce = lapack.get_lapack_funcs(("sytrd_lwork", "sytrd"), (a,))
            work = int(length(a.shape[0], lower=1)[0])
            reflectors, d, e, self._tau, info = reduce(a, lower=1, lwork=work)
            if info:
                raise Degenerate("the scatter of the features could not be brought to tridiagonal form")
            self._reflectors = np.asfortranarray(reflectors[1:, :-1])
            self._d, self._e = d.astype(np.float64), e.astype(np.float64)
        beside = np.abs(self._e)
        self.norm = float(np.max(np.abs(self._d) + np.append(beside, 0.0) + np.append(0.0, beside)))

    @property
    def size(self) -> int:
        """Number of rows r."""
        return int(self._values.shape[0] if self._vectors is not None else self._d.shape[0])

    def resolves(self, shift: float, /) -> bool:
        """Whether rounding in float32, if the form was reduced in it, changes shifted eigenvalues little on average."""
        return not self._rough or _FLOAT32_ROUNDING * self.norm * self.inverse_trace(shift) < _LITTLE * self.size

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
            lower, work = self._reflectors, max(1, 64 * b.shape[1])
            multiply = lapack.get_lapack_funcs("ormqr", (lower,))
            b[1:] = multiply("L", "T" if transposed else "N", lower, self._tau, b[1:].astype(lower.dtype), work)[0]
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

    def quadratics(self, rotated: Tensor, shifts: Sequence[float], /) -> tuple[Tensor, Tensor]:
        """`b^T (A + shift I)^-1 b` `[S, m]` for rotated columns b `[r, m]`, and `log det (A + shift I)` `[S]`."""
        if self._vectors is not None:
            values = (
                self._values.clamp_min(0.0) + torch.tensor(shifts, device=self._device, dtype=torch.float64)[:, None]
            )
            return values.reciprocal() @ rotated.square(), values.log().sum(1)
        width = rotated.shape[1]
        if width < _SWEPT:
            solved = [self.solve(rotated, shift) for shift in shifts]
            parts = [(rotated * x).sum(0) for x, _ in solved]
            return torch.stack(parts), torch.tensor([logdet for _, logdet in solved], dtype=torch.float64)
        step = max(1, _SWEPT_AT_ONCE // width)
        swept = [self._sweep(rotated.numpy(), shifts[i : i + step]) for i in range(0, len(shifts), step)]
        forms, logdets = (np.concatenate(part) for part in zip(*swept, strict=True))
        return torch.from_numpy(forms), torch.from_numpy(logdets)

    def _sweep(self, columns: np.ndarray, shifts: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
        """All columns and shifts at once, row by row of L D L^T: b^T (T + s)^-1 b is |D^-1/2 L^-1 b|^2."""
        added = np.asarray(shifts)
        diagonal = np.maximum(self._d, 0.0)
        pivots, ratios = np.empty((self.size, len(added))), np.zeros((self.size, len(added)))
        pivots[0] = diagonal[0] + added
        for i in range(1, self.size):
            ratios[i] = self._e[i - 1] / pivots[i - 1]
            pivots[i] = diagonal[i] + added - self._e[i - 1] * ratios[i]
        if not (pivots > 0).all():
            raise Degenerate("the scatter of the features is not positive definite at the working precision")
        rows = np.ascontiguousarray(columns)
        y = np.zeros((len(added), rows.shape[1]))
        scaled, total = np.empty_like(y), np.zeros_like(y)
        for i in range(self.size):
            y *= ratios[i][:, None]
            np.subtract(rows[i], y, out=y)
            np.multiply(y, y, out=scaled)
            scaled /= pivots[i][:, None]
            total += scaled
        return total, np.log(pivots).sum(0)

    def inverse_trace(self, shift: float, /) -> float:
        """`tr((A + shift I)^-1)` for a positive shift."""
        if self._vectors is not None or self.size == 1 or shift < _SMALL_SHIFT * self.norm:
            return float((1.0 / (self.eigenvalues() + shift)).sum())
        diagonal = np.maximum(self._d, 0.0) + shift
        down, _, info = lapack.dpttrf(diagonal, self._e)
        up, _, again = lapack.dpttrf(diagonal[::-1], self._e[::-1])
        if info or again:
            raise Degenerate("the scatter of the features is not positive definite at the working precision")
        # eliminating all rows but one, from both ends, leaves the reciprocal of the inverse's diagonal entry
        return float((1.0 / (down + up[::-1] - diagonal)).sum())

    def eigenvalues(self) -> Tensor:
        """All eigenvalues, ascending, rounding below zero cut off."""
        if self._vectors is not None:
            cut: Tensor = self._values.clamp_min(0.0)
            return cut
        if self.size == 1:
            return torch.from_numpy(np.maximum(self._d, 0.0))
        values = eigh_tridiagonal(self._d, self._e, eigvals_only=True, lapack_driver="sterf", check_finite=False)
        return torch.from_numpy(np.maximum(values, 0.0))
