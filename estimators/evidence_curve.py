"""The log evidence of Bayesian ridge regression on class indicators, maximised exactly in one dimension a class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

_STEP = 1.25  # width of a cell in log tau; the curves are analytic within |Im log tau| < pi
_STRIDE = 4  # cells between those at which a scan begins
_NODES = 9  # Chebyshev nodes in a cell: the interpolation error is below 1e-9
_ROUGH_NODES = 5  # in a replicate: its error need only be small beside a standard error
_EXTENSIONS = 5  # cells beyond those found on all of the data
_BELOW = 2.0**-48  # times the size, of the largest eigenvalue: a smaller tau is no more than what float64 rounds
_ABOVE = 1e4  # tau above this multiple of it is indistinguishable from infinity

Terms = Callable[[Sequence[float]], tuple[Tensor, Tensor]]
"""From T values of tau to (log q_c [T, C], log det(I + S/tau) [T]), q_c = t_c^T (I + X X^T / tau)^-1 t_c."""


@dataclass(frozen=True, slots=True)
class Maxima:
    """Where each class's evidence is largest, and how large.

    Attributes:
        values: Largest log evidence of each class over N, `[C]`.
        log_tau: Where, `[C]`; infinity where the features explain nothing.
        unbounded: Classes whose evidence grows without bound as tau vanishes (the features fit their labels exactly,
            and more rows than the rank); the value is then that of the largest maximum at finite tau.
        cells: Numbers of the cells of width `_STEP` in log tau in which the maxima lie.
    """

    values: Tensor
    log_tau: Tensor
    unbounded: int
    cells: tuple[int, ...]


def maximise(terms: Terms, squared_norms: Tensor, n: int, /, *, smallest: float, largest: float, size: int) -> Maxima:
    """Maximise over tau = alpha / beta the evidence of every class at once.

    With beta = N / q in closed form, the evidence over N is -(log 2 pi + 1 + log(q/N) + log det(I + S/tau)/N)/2.
    A scan over all of log tau finds the cells in which maxima lie; in those the curves are interpolated.

    Args:
        terms: The two terms of the evidence at a given tau, for all classes.
        squared_norms: |t_c|^2, `[C]`: what q_c tends to as tau grows.
        n: Number of rows.
        smallest: Norm against which rounding is to be judged; sets the lower end of the range of tau.
        largest: A bound on the largest eigenvalue of S; sets the upper end.
        size: Rows of the matrix that is factored.
    """
    low = math.floor(math.log(smallest * size * _BELOW) / _STEP)
    high = math.ceil(math.log(largest * _ABOVE) / _STEP)
    limit = _limit(squared_norms, n)
    scan = _scan(terms, n, low, high, limit)
    grid = torch.cat([scan, limit[None]])
    best = grid.argmax(0)
    rising = best == 0  # towards tau = 0
    unbounded = rising & (scan[0] - scan[1] > 1e-4 * _STEP)
    if bool(unbounded.any()):
        grid[:-1] = _at(terms, n, [_STEP * i for i in range(low, high + 1)])
        inner = (grid[1:-1] >= grid[:-2]) & (grid[1:-1] >= grid[2:])
        masked = torch.where(inner, grid[1:-1], -math.inf)
        found = unbounded & inner.any(0)
        best = torch.where(found, masked.argmax(0) + 1, best)
        if bool((unbounded & ~found).any()):
            return Maxima(grid.amax(0), torch.full_like(limit, -math.inf), int(unbounded.sum()), ())
    finite = best < scan.shape[0]
    cells = sorted({low + int(i) for i in best[finite].tolist()})
    values, log_tau = limit.clone(), torch.full_like(limit, math.inf)
    done: set[int] = set()
    while wanted := set(cells) - done:
        # where a curve grows without bound, an interval over more than its cell would find it there
        runs = [(cell, cell) for cell in sorted(wanted)] if bool(unbounded.any()) else _runs(wanted)
        for first, last in runs:
            near = (best - (first - low) >= -1) & (best - (last - low) <= 1)
            _refine(terms, n, first, last, _NODES, values, log_tau, within=finite & near)
        done |= wanted
        cells = sorted({*cells, *_beyond(log_tau[finite], done)})
    return Maxima(values, log_tau, int(unbounded.sum()), tuple(cells))


def maximise_near(terms: Terms, squared_norms: Tensor, n: int, cells: tuple[int, ...], /) -> Tensor:
    """Largest log evidence over N of each class `[C]`, from cells found on nearly the same data, and at infinity.

    Where a class's curve still rises at the edge of the cells, the next cell is searched too, a few times over.
    """
    limit = _limit(squared_norms, n)
    values = torch.full_like(limit, -math.inf)
    log_tau = torch.zeros_like(limit)
    everyone = torch.ones_like(limit, dtype=torch.bool)
    done: set[int] = set()
    wanted = set(cells)
    for _ in range(_EXTENSIONS):
        for first, last in _runs(wanted - done):
            _refine(terms, n, first, last, _ROUGH_NODES, values, log_tau, within=everyone)
        done |= wanted
        wanted = _beyond(log_tau, done)
        if not wanted:
            break
    return torch.maximum(values, limit)


def _scan(terms: Terms, n: int, low: int, high: int, limit: Tensor) -> Tensor:
    """Evidence of every class at the middles of the cells `[T, C]`; -inf where none can be a class's largest.

    q rises with tau and det(I + S/tau) falls: between two values of tau no evidence is above that of q at the lower
    and the determinant at the upper. Halves of intervals are looked at while that is above what is known.
    """
    count = high - low + 1
    log_q = limit.new_zeros(count, limit.shape[0])
    logdet = limit.new_zeros(count)
    scan = torch.full_like(log_q, -math.inf)
    seen: list[int] = []
    wanted = sorted({1, *range(0, count - 1, _STRIDE), count - 1})
    while wanted:
        log_q[wanted], logdet[wanted] = terms([math.exp(_STEP * (low + i)) for i in wanted])
        scan[wanted] = _evidence(log_q[wanted], logdet[wanted], n)
        seen = sorted(seen + wanted)
        gaps = [(first, last) for first, last in pairwise(seen) if last - first > 1]
        tops = _evidence(log_q[[first for first, _ in gaps]], logdet[[last for _, last in gaps]], n)
        above = (tops > torch.maximum(scan.amax(0), limit)).any(1)
        wanted = [(first + last) // 2 for (first, last), open_ in zip(gaps, above.tolist(), strict=True) if open_]
    return scan


def _limit(squared_norms: Tensor, n: int) -> Tensor:
    """The evidence as tau grows without bound."""
    return _evidence(squared_norms.log()[None], squared_norms.new_zeros(1), n)[0]


def _evidence(log_q: Tensor, logdet: Tensor, n: int) -> Tensor:
    return -0.5 * (math.log(2 * math.pi) + 1 + log_q - math.log(n) + logdet[:, None] / n)


def _at(terms: Terms, n: int, log_taus: list[float]) -> Tensor:
    """Evidence of every class `[T, C]`."""
    log_q, logdet = terms([math.exp(log_tau) for log_tau in log_taus])
    return _evidence(log_q, logdet, n)


def _runs(cells: set[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbouring cells."""
    starts = sorted(cell for cell in cells if cell - 1 not in cells)
    ends = sorted(cell for cell in cells if cell + 1 not in cells)
    return list(zip(starts, ends, strict=True))


def _beyond(log_tau: Tensor, done: set[int]) -> set[int]:
    """Cells not yet looked at, at whose edges maxima lie."""
    ends = [at / _STEP for at in log_tau.tolist() if math.isfinite(at)]
    cells = {round(end + side) for end in ends for side in (0.25, -0.25)} - done
    return {cell for cell in cells if any(abs(abs(end - cell) - 0.5) < 1e-6 for end in ends)}


def _ellipse(cells: int) -> float:
    """Log of the sum of the half axes of the ellipse, about so many cells, in which the curves are analytic."""
    return math.asinh(2 * math.pi / (_STEP * cells))


def _refine(
    terms: Terms, n: int, first: int, last: int, nodes: int, values: Tensor, log_tau: Tensor, *, within: Tensor
) -> None:
    """Raise `values` and set `log_tau` where the curve interpolated over these cells is higher.

    `nodes` is how many one cell takes. Several together take fewer than each alone, and are as near to the curve.
    """
    cells = last - first + 1
    nodes = math.ceil(nodes * (_ellipse(1) / _ellipse(cells)))
    middle, half = _STEP * (first + last) / 2, _STEP * cells / 2
    x = np.cos(np.pi * (np.arange(nodes) + 0.5) / nodes)
    sampled = _at(terms, n, [middle + half * float(v) for v in x]).cpu().numpy()
    coefficients = np.polynomial.chebyshev.chebfit(x, sampled, nodes - 1)
    grid = np.linspace(-1.0, 1.0, 201)
    for _ in range(3):
        curve = np.polynomial.chebyshev.chebval(grid, coefficients) if grid.ndim == 1 else _own(grid, coefficients)
        top = curve.argmax(1)
        centre = np.take_along_axis(np.broadcast_to(grid, curve.shape), top[:, None], 1)
        spacing = (grid[..., 1] - grid[..., 0]).reshape(-1, 1)
        grid = np.clip(centre + spacing * np.linspace(-1.0, 1.0, 21), -1.0, 1.0)
    highest = torch.from_numpy(curve.max(1)).to(values.device)
    where = torch.from_numpy(middle + half * centre[:, 0]).to(values.device)
    better = within & (highest > values)
    values.copy_(torch.where(better, highest, values))
    log_tau.copy_(torch.where(better, where, log_tau))


def _own(grid: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """Chebyshev series of each class at its own points: `[C, P]` from points `[C, P]` and coefficients `[n, C]`."""
    return np.asarray(np.polynomial.chebyshev.chebval(grid, coefficients[:, :, None], tensor=False))
