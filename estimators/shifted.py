"""A symmetric matrix prepared once for many shifted systems, without its eigenvectors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from estimators.errors import Degenerate

_BAND = 64  # rows of a block: wide enough for matrix products, narrow enough for cheap shifts
_REDUCED_FROM = 3 * _BAND
_WIDE = 3 * _BAND  # columns from which a block's inverse and a product cost less than solving for them
_LONG = 8  # times its width, from which a panel is factored faster by matrix products
_DEPENDENT = 0.1  # how far from orthonormal a panel's columns may come out of a round
_WIDENED = 256  # rows of a float32 matrix that are taken to float64 together: they stay in the cache
_AT_ONCE = 2**22  # numbers in the half-solved columns of the shifts that are taken together
_FLOAT32_ROUNDING = 2.0**-24
_ROUNDED_LOG = 2.0**-22  # of a dimension's share in log det, in float32
_NEAR = 4  # log det of large and small eigenvalues side by side is off by 0.0005 of `lost` times the trace, size 520
_APART = 0.03
_LED = 0.5
_LITTLE = 1e-3  # replicates of real features, rescaled in many ways, are then off by 0.001 of their spread at most
_SMALL_SHIFT = 1e-9  # of the norm: below it float32 does not do, and traces are taken from eigenvalues

_Steps = Iterator[tuple[slice, Tensor, Tensor | None]]


class ShiftedForm:
    """A symmetric positive semi-definite matrix prepared for many shifted systems `(A + shift I) x = b`.

    On the CPU the matrix is brought to block-tridiagonal form, `A = Q B Q^T` with blocks of 64 rows, by blocks of
    reflectors: all of it matrix products, at a fraction of the cost of eigenvectors or of a tridiagonal form. After
    that each shift costs one sweep over the blocks, several shifts at a time. Elsewhere the eigenvectors are computed.

    A matrix given in float32 is reduced and swept in float32 (good enough beside a standard error where `resolves` says
    so). A few large eigenvalues come into the first two blocks with the first panel; a `careful` form reduces that one
    in float64, and float32 rounds little of what is left. Sums over the blocks are float64 either way.
    """

    def __init__(self, matrix: Tensor, /, *, careful: bool = False) -> None:
        """Factor a symmetric `[r, r]` float64 or float32 matrix (left unchanged)."""
        self.size = int(matrix.shape[0])
        self.rough = matrix.dtype == torch.float32
        self._careful = careful
        self._precision = matrix.dtype
        self._device = matrix.device
        self._values: Tensor | None = None
        self._resolved = math.inf  # a smaller shift may be too small
        self._traces: dict[float, float] = {}
        if matrix.device.type != "cpu":
            self._values, self._vectors = torch.linalg.eigh(matrix.to(torch.float64))
            self.norm = float(self._values.abs().max())
            return
        self._reflectors: list[tuple[int, Tensor, Tensor]] = []
        reduced = matrix.clone()
        if self.size >= _REDUCED_FROM:
            self._reduce(reduced)
        step = _BAND if self._reflectors else max(self.size, 1)
        self._rows = [slice(start, min(start + step, self.size)) for start in range(0, self.size, step)]
        self._blocks = [reduced[rows, rows].clone() for rows in self._rows]
        self._below = [reduced[low, high].clone() for high, low in pairwise(self._rows)]
        sums = torch.cat([block.abs().sum(1) for block in self._blocks])
        for (high, low), block in zip(pairwise(self._rows), self._below, strict=True):
            sums[low] += block.abs().sum(1)
            sums[high] += block.abs().sum(0)
        self.norm = float(sums.max())

    def _reduce(self, a: Tensor) -> None:
        """Bring `a` to blocks, in place; each panel is an orthogonal I - V T V^T times the block that is left of it."""
        for start in range(0, self.size - _BAND, _BAND):
            below = slice(start + _BAND, self.size)
            panel = a[below, start : start + _BAND]
            if self._careful and start == 0:
                panel = panel.to(torch.float64)
            v, t, left = _factored(panel) or _reflected(panel)
            rest = a[below, below]
            vt = v @ t
            p = _times(rest, vt)
            y = p.addmm_(v, vt.T @ p, alpha=-0.5)
            _less(rest, torch.cat([v, y], 1), torch.cat([y, v], 1).T)
            a[start + _BAND : start + _BAND + left.shape[0], start : start + _BAND] = left
            self._reflectors.append((start + _BAND, v.to(a.dtype), t.to(a.dtype)))

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        if self._values is not None:
            return 8 * (self.size + 1) * self.size
        held = [*self._blocks, *self._below, *(part for _, *parts in self._reflectors for part in parts)]
        return sum(part.numel() * part.element_size() for part in held)

    def resolves(self, shift: float, /, *, trace: float = math.inf) -> bool:
        """Whether rounding in float32, if the form was reduced in it, changes shifted eigenvalues little on average.

        `trace`: a known bound on `inverse_trace(shift)`, which is computed only where that bound is too large.
        """
        if self.rough and shift < _SMALL_SHIFT * self.norm:
            return False
        if self.rough and shift < self._resolved:
            allowed = _LITTLE * self.size
            try:
                if self.lost * trace >= allowed and self.lost * self.inverse_trace(shift) >= allowed:
                    return False
            except Degenerate:
                return False
            self._resolved = shift
        return True

    @property
    def lost(self) -> float:
        """How far rounding in float32 moves eigenvalues.

        What was rounded is everything, or what a float64 panel left. Of that, the large eigenvalues in the block that
        the panel filled lie apart from the small ones: their rounding hardly reaches those.
        """
        rounded = self._squared_from(0) ** 0.5
        if self._careful:
            rounded = self._squared_from(2) ** 0.5 + _APART * self._squared_from(1) ** 0.5
        return _FLOAT32_ROUNDING * float(rounded)

    def rotate(self, columns: Tensor, /) -> Tensor:
        """`Q^T C` for columns `[r, m]`: right-hand sides in the basis in which all else works."""
        if self._values is not None:
            turned: Tensor = self._vectors.T @ columns
            return turned
        out = columns.to(self._precision, copy=True)
        for start, v, t in self._reflectors:
            out[start:].addmm_(v, t.T @ (v.T @ out[start:]), alpha=-1)
        return out.to(torch.float64)

    def unrotate(self, rotated: Tensor, /) -> Tensor:
        """`Q C` for rotated columns `[r, m]`: the inverse of `rotate`."""
        if self._values is not None:
            turned: Tensor = self._vectors @ rotated
            return turned
        out = rotated.to(self._precision, copy=True)
        for start, v, t in reversed(self._reflectors):
            out[start:].addmm_(v, t @ (v.T @ out[start:]), alpha=-1)
        return out.to(torch.float64)

    def multiply(self, rotated: Tensor, /) -> Tensor:
        """`Q^T A Q C` for rotated columns `[r, m]`."""
        if self._values is not None:
            return self._values[:, None] * rotated
        given, rotated = rotated.dtype, rotated.to(self._precision)
        out = torch.cat([block @ rotated[rows] for block, rows in zip(self._blocks, self._rows, strict=True)])
        for (high, low), block in zip(pairwise(self._rows), self._below, strict=True):
            out[low] += block @ rotated[high]
            out[high] += block.T @ rotated[low]
        return out.to(given)

    @property
    def squared(self) -> float:
        """Sum of the squares of the matrix's entries."""
        if self._values is not None:
            return float(self._values.square().sum())
        return self._squared_from(0)

    @property
    def led(self) -> bool:
        """Whether the first two blocks hold most of the matrix: whether a careful form of its like pays."""
        return self._values is None and self._squared_from(2) < _LED**2 * self._squared_from(0)

    def _squared_from(self, first: int) -> float:
        return sum(self._squares[first:])

    @cached_property
    def _squares(self) -> list[float]:
        """Of each block and of what lies beside it, on both sides of the diagonal, the sum of the squares."""
        own = torch.stack([block.square().sum(dtype=torch.float64) for block in self._blocks])
        for i, block in enumerate(self._below):
            own[i] += 2 * block.square().sum(dtype=torch.float64)
        squares: list[float] = own.tolist()
        return squares

    def half_solve(self, rotated: Tensor, shifts: Sequence[float], /) -> Iterator[tuple[Tensor, Tensor]]:
        """`L^-1 C` `[S, r, m]` for rotated columns C, `L L^T = A + shift I`, and `log det (A + shift I)` `[S]`.

        Inner products of the result are those of the columns in the metric of the shifted inverse. A few shifts come
        at a time, so that memory does not grow with their number.
        """
        step = max(1, _AT_ONCE // max(1, rotated.numel()))
        for start in range(0, len(shifts), step):
            added = torch.tensor(shifts[start : start + step], dtype=torch.float64, device=self._device)
            if self._values is None:
                yield self._sweep(rotated.to(self._precision), added)
            else:
                values = self._values.clamp_min(0.0) + added[:, None]
                yield rotated / values.sqrt()[:, :, None], values.log().sum(1)

    def norms(
        self, rotated: Tensor, shifts: Sequence[float], /, *, products: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of the columns of `half_solve`: their squares `[S, m]`, their products with the last `[S, m]`; and `log det`.

        Summed block by block, while a block is in the cache. Without `products` these are 0.
        """
        if self._values is not None:
            found = [
                (half.square().sum(1), (half * half[:, :, -1:]).sum(1), logdet)
                for half, logdet in self.half_solve(rotated, shifts)
            ]
        else:
            step = max(1, _AT_ONCE // max(1, rotated.numel()))
            rotated = rotated.to(self._precision)
            found = [
                self._norms(rotated, shifts[start : start + step], products) for start in range(0, len(shifts), step)
            ]
        squares, across, logdets = zip(*found, strict=True)
        return torch.cat(squares), torch.cat(across), torch.cat(logdets)

    def _norms(self, rotated: Tensor, shifts: Sequence[float], products: bool) -> tuple[Tensor, Tensor, Tensor]:
        added = torch.tensor(shifts, dtype=torch.float64)
        logdet = torch.zeros_like(added)
        own = logdet.new_zeros(len(added), rotated.shape[1])
        across = torch.zeros_like(own)
        for _, part, grown in self._swept(rotated, added):
            own += part.square().sum(1)
            if products:
                across += (part.mT @ part[:, :, -1:]).squeeze(2)
            logdet += grown
        return own, across, logdet

    def _sweep(self, rotated: Tensor, added: Tensor) -> tuple[Tensor, Tensor]:
        out = rotated.new_empty(len(added), *rotated.shape)
        logdet = torch.zeros_like(added)
        for rows, part, grown in self._swept(rotated, added):
            out[:, rows] = part
            logdet += grown
        return out, logdet

    def _swept(self, rotated: Tensor, added: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Block by block: rows, the half-solved columns there, and what the block adds to `log det`."""
        previous = rotated[:0]
        for rows, factor, beside in self._steps(added):
            right = rotated[rows].expand(len(added), -1, -1)
            if beside is not None:
                right = torch.baddbmm(right, beside.mT, previous, alpha=-1)
            wide = right.shape[2] > _WIDE and right.dtype == torch.float64
            solved = torch.eye(factor.shape[1], dtype=factor.dtype).expand_as(factor) if wide else right
            previous = torch.linalg.solve_triangular(factor, solved, upper=False)
            previous = previous @ right if wide else previous
            yield rows, previous, 2 * factor.diagonal(dim1=1, dim2=2).to(torch.float64).log().sum(1)

    def _steps(self, added: Tensor) -> _Steps:
        """Block by block: rows, Cholesky factor of the block less what came before, and the block above it.

        The block beside the diagonal is transposed and divided by the factor above: `beside^T` is L's.
        """
        beside: Tensor | None = None
        for i, (rows, block) in enumerate(zip(self._rows, self._blocks, strict=True)):
            left = block + added[:, None, None].to(block.dtype) * torch.eye(block.shape[0], dtype=block.dtype)
            if beside is not None:
                left -= beside.mT @ beside
            factor, info = torch.linalg.cholesky_ex(left)
            if bool(info.any()):
                raise Degenerate("the scatter of the features is not positive definite at the working precision")
            yield rows, factor, beside
            if i < len(self._below):
                right = self._below[i].T.expand(len(added), -1, -1)
                beside = torch.linalg.solve_triangular(factor, right, upper=False)

    def solve(self, rotated: Tensor, shift: float, /) -> Tensor:
        """`(A + shift I)^-1 C` in the rotated basis, for rotated columns `[r, m]`."""
        if self._values is not None:
            return rotated / (self._values.clamp_min(0.0) + shift)[:, None]
        given, rotated = rotated.dtype, rotated.to(self._precision)
        out = torch.empty_like(rotated)
        steps = list(self._steps(torch.tensor([shift], dtype=torch.float64)))
        for i, (rows, factor, beside) in enumerate(steps):
            right = rotated[rows] if beside is None else rotated[rows] - beside[0].T @ out[steps[i - 1][0]]
            out[rows] = torch.linalg.solve_triangular(factor[0], right, upper=False)
        for i in reversed(range(len(steps))):
            rows, factor, _ = steps[i]
            if i + 1 < len(steps):
                after, _, beside = steps[i + 1]
                if beside is not None:
                    out[rows] -= beside[0] @ out[after]
            out[rows] = torch.linalg.solve_triangular(factor[0].T, out[rows], upper=True)
        return out.to(given)

    def quadratics(self, rotated: Tensor, shifts: Sequence[float], /) -> tuple[Tensor, Tensor]:
        """`c^T (A + shift I)^-1 c` `[S, m]` for rotated columns c `[r, m]`, and `log det (A + shift I)` `[S]`."""
        forms, _, logdets = self.norms(rotated, shifts, products=False)
        return forms, logdets

    def inverse_trace(self, shift: float, /) -> float:
        """`tr((A + shift I)^-1)` for a positive shift; kept, since the same shifts come again."""
        if shift not in self._traces:
            small = self._values is not None or shift < _SMALL_SHIFT * self.norm
            whole = float((1.0 / (self.eigenvalues() + shift)).sum()) if small else self._inverse_trace(shift)
            self._traces[shift] = whole
        return self._traces[shift]

    def _inverse_trace(self, shift: float) -> float:
        # what is left of a block's inverse once those below it are known: Z = D^-1 + D^-1 B^T Z' B D^-1
        traces, inverse = [], torch.zeros(0, 0, dtype=self._precision)
        beside: Tensor | None = None
        for _, factor, above in reversed(list(self._steps(torch.tensor([shift], dtype=torch.float64)))):
            identity = torch.eye(factor.shape[1], dtype=self._precision)
            root = torch.linalg.solve_triangular(factor[0], identity, upper=False)
            middle = identity if beside is None else identity.addmm_(beside @ inverse, beside.T)
            inverse = root.T @ middle @ root
            traces.append(inverse.trace())
            beside = None if above is None else above[0]
        return float(torch.stack(traces).sum(dtype=torch.float64))

    def eigenvalues(self) -> Tensor:
        """All eigenvalues, ascending, rounding below zero cut off."""
        if self._values is not None:
            cut: Tensor = self._values.clamp_min(0.0)
            return cut
        whole = torch.zeros(self.size, self.size, dtype=torch.float64)
        for rows, block in zip(self._rows, self._blocks, strict=True):
            whole[rows, rows] = block
        for (high, low), block in zip(pairwise(self._rows), self._below, strict=True):
            whole[low, high], whole[high, low] = block, block.T
        values: Tensor = torch.linalg.eigvalsh(whole).clamp_min(0.0)
        return values


def largest_trace(form: ShiftedForm, shifts: Sequence[float], logdets: Tensor, /) -> float:
    """A bound on tr((A + low I)^-1) at the lowest of several shifts, from log det at it and at the next, `high`.

    The trace is the slope of log det, which falls as the shift grows; low/high of it is left at `high` at least. What
    float32 may take from the logarithms is added. Of shifts so near each other that each factorisation's own rounding
    outweighs what lies between them, nothing is known: infinity.
    """
    low, high = sorted(range(len(shifts)), key=shifts.__getitem__)[:2]
    if (shifts[high] - shifts[low]) * form.size < _NEAR * form.lost:
        return math.inf
    gain = float(logdets[high] - logdets[low]) + _ROUNDED_LOG * form.size
    return gain / (shifts[high] - shifts[low]) * shifts[high] / shifts[low]


def _times(matrix: Tensor, columns: Tensor) -> Tensor:
    """A matrix times columns, in the columns' precision."""
    if matrix.dtype == columns.dtype:
        return matrix @ columns
    return torch.cat([some.to(columns.dtype) @ columns for some in torch.split(matrix, _WIDENED)])


def _less(matrix: Tensor, left: Tensor, right: Tensor) -> None:
    """Take the product of two factors from a matrix, in place, in the factors' precision."""
    if matrix.dtype == left.dtype:
        matrix.addmm_(left, right, alpha=-1)
        return
    for some, of in zip(torch.split(matrix, _WIDENED), torch.split(left, _WIDENED), strict=True):
        some.copy_(some.to(left.dtype).addmm_(of, right, alpha=-1))


def _factored(panel: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """V, T and what I - V T V^T leaves of a panel, by two rounds of Cholesky.

    None for a short panel, and where its columns nearly depend on each other.

    With P = Q R and Q's upper square O U (O orthogonal, U triangular with a positive diagonal), V = Q + [O; 0] and
    T = (I + U)^-T reflect P to -O R. Of a long panel that is mostly matrix products, which threads share.
    """
    width = panel.shape[1]
    if panel.shape[0] < _LONG * width:
        return None
    across, gram = panel.T, panel.T @ panel
    identity = torch.eye(width, dtype=panel.dtype)
    rest = identity
    for _ in range(2):
        factor, info = torch.linalg.cholesky_ex(gram)
        if bool(info):
            return None
        across = torch.linalg.solve_triangular(factor, across, upper=False)
        rest = rest @ factor
        gram = across @ across.T
        if float((gram - identity).abs().max()) > _DEPENDENT:
            return None
    q = across.T.contiguous()
    square, upper = torch.linalg.qr(q[:width])
    sign = torch.where(upper.diagonal() < 0, -1.0, 1.0).to(panel.dtype)
    square, upper = square * sign, upper * sign[:, None]
    q[:width] += square
    t = torch.linalg.solve_triangular(identity + upper, identity, upper=True).T
    return q, t, -(square @ rest.T)


def _reflected(panel: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same by Householder's reflectors, whatever the panel."""
    factored, tau = torch.geqrf(panel)
    wide = tau.shape[0]
    v = factored[:, :wide].tril(-1)
    v.diagonal().fill_(1.0)
    v = v * (tau != 0)
    # V^T V is T^-1 + T^-T
    inverse = (v.T @ v).triu(1)
    inverse.diagonal().copy_(torch.where(tau != 0, 1 / tau, 1.0))
    t = torch.linalg.solve_triangular(inverse, torch.eye(wide, dtype=panel.dtype), upper=True)
    return v, t, factored[:wide].triu()
