"""Class moments: what most estimators need of a dataset, in memory that does not grow with the number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from estimators._moments_arrays import read
from estimators._moments_rows import check_batch, positions_among, rows_left
from estimators.errors import InvalidInput
from estimators.linalg import add_gram, gram, symmetrise

_CHUNK = 2048


@dataclass(frozen=True, slots=True, eq=False)
class ClassMoments:
    """Sums over the images of each class, about a fixed point, from which means and scatters follow exactly.

    Every field but `rows` is a sum over images, so moments of disjoint sets of images add up, and those of a subset can
    be taken away. While there are fewer rows than dimensions the rows themselves are kept in place of the `[D, D]`
    scatter: they are smaller, and their Gram matrix is the cheaper side.

    Attributes:
        labels: The class ids present, ascending; position in this tuple is the class index used everywhere else.
        counts: Images per class, `[C]` int64.
        shift: Point about which the sums are taken, `[D]` float64; its choice affects rounding only.
        sums: Sum of `x - shift` per class, `[C, D]` float64.
        squares: Sum of `(x - shift)**2` per class and dimension, `[C, D]` float64.
        cubic: Sum of `|x - shift|^2 (x - shift)` over all images, `[D]` float64.
        quartic: Sum of `|x - shift|^4` over all images.
        second: Sum of `(x - shift)(x - shift)^T` over all images, `[D, D]` float64, or None where rows are kept.
        rows: The features themselves, `[N, D]` float32 or float64, or None where the scatter is kept. Neither is there
            in what `minus` and `union` make without a scatter.
        row_labels: Class index of each kept row, `[N]` int64, or None.
    """

    labels: tuple[int, ...]
    counts: Tensor
    shift: Tensor
    sums: Tensor
    squares: Tensor
    cubic: Tensor
    quartic: float
    second: Tensor | None
    rows: Tensor | None
    row_labels: Tensor | None

    @classmethod
    def from_features(cls, features: Tensor, labels: Tensor, /) -> ClassMoments:
        """Moments of features `[N, D]` (any float dtype and device) with integer labels `[N]` (any class ids)."""
        accumulator = MomentAccumulator()
        accumulator.add(features, labels)
        return accumulator.moments()

    @property
    def n(self) -> int:
        """Number of images."""
        return int(self.counts.sum())

    @property
    def dim(self) -> int:
        """Number of feature dimensions D."""
        return int(self.shift.shape[0])

    @property
    def n_classes(self) -> int:
        """Number of classes present."""
        return len(self.labels)

    @property
    def means(self) -> Tensor:
        """Class means `[C, D]` float64, as the features came (not centred)."""
        return self.shift + self.sums / self.counts[:, None]

    @property
    def mean(self) -> Tensor:
        """Mean of all images `[D]` float64."""
        return self.shift + self.sums.sum(0) / self.n

    @property
    def variances(self) -> Tensor:
        """Biased variance of each class in each dimension, `[C, D]` float64."""
        n = self.counts[:, None]
        centred = self.squares / n - (self.sums / n) ** 2
        return torch.where(centred > 1e-14 * self.squares / n, centred, 0.0)

    @property
    def std(self) -> Tensor:
        """Biased standard deviation of all images in each dimension, `[D]` float64."""
        variance = self.squares.sum(0) / self.n - (self.sums.sum(0) / self.n) ** 2
        return variance.clamp_min(0.0).sqrt()

    def second_about_shift(self) -> Tensor:
        """Sum of outer products about `shift`, `[D, D]` float64, computed from the rows where those are kept."""
        return self.second if self.second is not None else gram(self._need_rows(), self.shift)

    def total_scatter(self) -> Tensor:
        """Scatter of all images about their mean, `[D, D]` float64 (N times the biased covariance)."""
        total = self.sums.sum(0)
        return self.second_about_shift() - torch.outer(total, total) / self.n

    def within_scatter(self) -> Tensor:
        """Pooled scatter of the images about their class means, `[D, D]` float64."""
        scaled = self.sums / self.counts[:, None].to(torch.float64).sqrt()
        return self.second_about_shift() - scaled.T @ scaled

    def quartic_about_mean(self, moved: Tensor | None = None, /) -> float:
        """Sum of `|x - mean|^4` over all images; without a scatter, given its product with `shift - mean`."""
        return self._higher_about(self.shift - self.mean, moved)[1]

    def _higher_about(self, d: Tensor, moved: Tensor | None = None) -> tuple[Tensor, float]:
        """Cubic and quartic sums about the point `shift - d`, from the total scatter's product with d where given."""
        n, s, dd = self.n, self.sums.sum(0), float(d @ d)
        trace = float(self.squares.sum())
        if moved is not None:
            second_d = moved + s * (float(s @ d) / n)
        elif self.second is not None:
            second_d = self.second @ d
        else:
            rows = self._need_rows().to(torch.float64) - self.shift
            second_d = rows.T @ (rows @ d)
        sd = float(s @ d)
        cubic = self.cubic + trace * d + 2 * second_d + 2 * sd * d + dd * s + n * dd * d
        quartic = self.quartic + 4 * float(d @ second_d) + n * dd**2 + 4 * float(self.cubic @ d)
        return cubic, quartic + 2 * trace * dd + 4 * sd * dd

    def about(self, shift: Tensor, /) -> ClassMoments:
        """The same moments about another point."""
        if torch.equal(shift, self.shift):
            return self
        d = self.shift - shift
        n, s = self.n, self.sums.sum(0)
        cubic, quartic = self._higher_about(d)
        counts = self.counts[:, None]
        second = None
        if self.second is not None:
            cross = torch.outer(s, d)
            second = self.second + cross + cross.T + n * torch.outer(d, d)
        squares = self.squares + 2 * self.sums * d + counts * d**2
        return ClassMoments(
            self.labels, self.counts, shift, self.sums + counts * d, squares, cubic, quartic, second, self.rows,
            self.row_labels,
        )  # fmt: skip

    def __add__(self, other: ClassMoments) -> ClassMoments:
        """Moments of the union of two disjoint sets of images of the same model."""
        return ClassMoments.union((self, other))

    @classmethod
    def union(cls, parts: Sequence[ClassMoments], /, *, scatter: bool = True) -> ClassMoments:
        """Moments of the union of disjoint sets of images of the same model; without rows or `scatter` if told so."""
        first = parts[0]
        for part in parts[1:]:
            first._check_compatible(part)
        moved = [part.about(first.shift) for part in parts]
        labels = tuple(sorted({label for part in moved for label in part.labels}))
        at = [positions_among(part.labels, labels, first.shift) for part in moved]

        def spread(values: list[Tensor]) -> Tensor:
            out = values[0].new_zeros((len(labels), *values[0].shape[1:]))
            for index, value in zip(at, values, strict=True):
                out[index] += value
            return out

        second, rows, row_labels = None, None, None
        if not scatter:
            pass
        elif all(part.rows is not None for part in moved) and sum(part.n for part in moved) < first.dim:
            rows = torch.cat([part._need_rows() for part in moved])
            row_labels = torch.cat([index[part._need_row_labels()] for index, part in zip(at, moved, strict=True)])
        else:
            second = torch.zeros(first.dim, first.dim, dtype=torch.float64, device=first.shift.device)
            for part in moved:
                part._add_second(second, 1.0)
            symmetrise(second)
        return cls(
            labels, spread([part.counts for part in moved]), first.shift, spread([part.sums for part in moved]),
            spread([part.squares for part in moved]), torch.stack([part.cubic for part in moved]).sum(0),
            sum(part.quartic for part in moved), second, rows, row_labels,
        )  # fmt: skip

    def _add_second(self, total: Tensor, sign: float) -> None:
        """Add the sum of outer products about `shift` to the lower triangle of a matrix, or take it away."""
        if self.second is not None:
            total.add_(self.second, alpha=sign)
            return
        rows = self._need_rows()
        for start in range(0, self.n, _CHUNK):
            add_gram(total, rows[start : start + _CHUNK].to(torch.float64, copy=True).sub_(self.shift), sign)

    def __sub__(self, other: ClassMoments) -> ClassMoments:
        """Moments of the images of `self` that are not among those of `other`, which must be a subset of them."""
        return self.minus(other, scatter=True)

    def minus(self, other: ClassMoments, /, *, scatter: bool) -> ClassMoments:
        """The same; without rows or a `scatter`, which cost the most, if told so."""
        self._check_compatible(other)
        other = other.about(self.shift)
        if not set(other.labels) <= set(self.labels):
            raise InvalidInput(f"cannot subtract classes that are absent: {set(other.labels) - set(self.labels)}")
        at = positions_among(other.labels, self.labels, self.shift)
        counts = self.counts.index_add(0, at, -other.counts)
        if bool((counts < 0).any()):
            raise InvalidInput("cannot subtract more images of a class than there are")
        if not bool((counts > 0).any()):
            raise InvalidInput("nothing would be left")
        keep = counts > 0
        labels = tuple(label for label, kept in zip(self.labels, keep.tolist(), strict=True) if kept)
        second, rows, row_labels = None, None, None
        if not scatter:
            pass
        elif self.rows is not None:
            if other.rows is None:
                raise InvalidInput("cannot take a scatter away from rows")
            mask = rows_left(self.rows, self._need_row_labels(), other.rows, at[other._need_row_labels()])
            rows = self.rows[mask]
            row_labels = (keep.cumsum(0) - 1)[self._need_row_labels()[mask]]
        else:
            second = self.second_about_shift().clone()
            other._add_second(second, -1.0)
            symmetrise(second)
        return ClassMoments(
            labels, counts[keep], self.shift, self.sums.index_add(0, at, -other.sums)[keep],
            self.squares.index_add(0, at, -other.squares)[keep].clamp_min(0.0), self.cubic - other.cubic,
            self.quartic - other.quartic, second, rows, row_labels,
        )  # fmt: skip

    def relabelled(self, names: Mapping[int, int], /) -> ClassMoments:
        """The same images with class ids replaced; ids mapped to the same value become one class."""
        renamed = [names.get(label, label) for label in self.labels]
        labels = tuple(sorted(set(renamed)))
        at = torch.tensor([labels.index(name) for name in renamed], device=self.shift.device)

        def merge(a: Tensor) -> Tensor:
            return a.new_zeros((len(labels), *a.shape[1:])).index_add(0, at, a)

        row_labels = None if self.row_labels is None else at[self.row_labels]
        return ClassMoments(
            labels, merge(self.counts), self.shift, merge(self.sums), merge(self.squares), self.cubic, self.quartic,
            self.second, self.rows, row_labels,
        )  # fmt: skip

    def to(self, device: torch.device | str, /) -> ClassMoments:
        """The same moments on another device."""

        def move(a: Tensor | None) -> Tensor | None:
            return None if a is None else a.to(device)

        return ClassMoments(
            self.labels, self.counts.to(device), self.shift.to(device), self.sums.to(device), self.squares.to(device),
            self.cubic.to(device), self.quartic, move(self.second), move(self.rows), move(self.row_labels),
        )  # fmt: skip

    def to_arrays(self) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
        """Everything as named numpy arrays, to be written to a file by whoever owns files."""
        arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
            "labels": np.asarray(self.labels, dtype=np.int64),
            "quartic": np.asarray(self.quartic, dtype=np.float64),
        }
        for name in ("counts", "shift", "sums", "squares", "cubic", "second", "rows", "row_labels"):
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value.cpu().numpy()
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]], /) -> ClassMoments:
        """The inverse of `to_arrays`; InvalidInput where they are not the arrays of moments."""
        return cls(**read(arrays))

    def _need_rows(self) -> Tensor:
        if self.rows is None:
            raise InvalidInput("these moments keep neither rows nor a scatter")
        return self.rows

    def _need_row_labels(self) -> Tensor:
        if self.row_labels is None:
            raise InvalidInput("these moments keep rows without their classes")
        return self.row_labels

    def _check_compatible(self, other: ClassMoments) -> None:
        if other.dim != self.dim:
            raise InvalidInput(f"moments of different widths: {self.dim} and {other.dim}")
        if other.shift.device != self.shift.device:
            raise InvalidInput(f"moments on different devices: {self.shift.device} and {other.shift.device}")


class MomentAccumulator:
    """Collects class moments batch by batch; `add` each batch, then take `moments()`.

    The point of reference is the mean of the first batch, unless one is given: blocks of one dataset share theirs.
    """

    def __init__(self, *, shift: Tensor | None = None) -> None:
        """Start empty."""
        self._shift = None if shift is None else shift.to(torch.float64)
        self._index: dict[int, int] = {}
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._sums = self._squares = self._cubic = torch.zeros(0, dtype=torch.float64)
        self._quartic = 0.0
        self._rows: list[Tensor] = []
        self._row_labels: list[Tensor] = []
        self._kept = 0
        self._second: Tensor | None = None  # lower triangle
        self._work: Tensor | None = None

    def add(self, features: Tensor, labels: Tensor, /) -> None:
        """Take in features `[n, D]` and their integer labels `[n]`."""
        check_batch(features, labels)
        features, labels = features.detach(), labels.to(torch.int64)
        if features.dtype not in (torch.float32, torch.float64):
            features = features.to(torch.float32)
        if self._shift is None:
            self._shift = features[:_CHUNK].to(torch.float64).mean(0)
        if self._shift.shape[0] != features.shape[1]:
            raise InvalidInput(f"a batch of width {features.shape[1]} after batches of width {self._shift.shape[0]}")
        if self._shift.device != features.device:
            raise InvalidInput(f"a batch on {features.device} after batches on {self._shift.device}")
        positions = self._class_positions(labels.to(features.device))
        keeping = self._second is None and self._kept + features.shape[0] < features.shape[1]
        if self._second is None and not keeping:
            self._second = gram(torch.cat([*self._rows, features[:0]]), self._shift)
            self._rows, self._row_labels = [], []
        for start in range(0, features.shape[0], _CHUNK):
            part = slice(start, start + _CHUNK)
            self._add_sums(features[part], positions[part], self._shift)
        if not np.isfinite(self._quartic):
            raise InvalidInput("features contain NaN or infinity (or are too large to square)")
        if keeping:
            self._rows.append(features)
            self._row_labels.append(positions)
            self._kept += features.shape[0]

    def moments(self) -> ClassMoments:
        """The moments of all that was added."""
        if self._shift is None or not self._index:
            raise InvalidInput("no images: there are no moments of an empty set")
        labels = tuple(sorted(self._index))
        order = torch.tensor([self._index[label] for label in labels], device=self._shift.device)
        rows, row_labels = None, None
        if self._second is None:
            rows = torch.cat(self._rows)
            row_labels = order.argsort()[torch.cat(self._row_labels)]
        second = None if self._second is None else symmetrise(self._second.clone())
        return ClassMoments(
            labels, self._counts[order], self._shift, self._sums[order], self._squares[order], self._cubic.clone(),
            self._quartic, second, rows, row_labels,
        )  # fmt: skip

    def _class_positions(self, labels: Tensor) -> Tensor:
        found, inverse = torch.unique(labels, return_inverse=True)
        for label in found.tolist():
            self._index.setdefault(int(label), len(self._index))
        return torch.tensor([self._index[int(v)] for v in found.tolist()], device=labels.device)[inverse]

    def _add_sums(self, features: Tensor, positions: Tensor, shift: Tensor) -> None:
        """Everything in place, in buffers that stay: a stream of batches must not fragment the heap."""
        x = self._buffer(features)
        x.copy_(features).sub_(shift)
        self._grow(len(self._index), x)
        self._counts += torch.bincount(positions, minlength=len(self._index))
        self._sums.index_add_(0, positions, x)
        norms = torch.linalg.vecdot(x, x)
        self._cubic.addmv_(x.T, norms)
        self._quartic += float(norms @ norms)
        if self._second is not None:
            add_gram(self._second, x)
        self._squares.index_add_(0, positions, x.square_())

    def _buffer(self, features: Tensor) -> Tensor:
        if self._work is None or self._work.shape[0] < features.shape[0]:
            self._work = features.new_empty(features.shape, dtype=torch.float64)
        return self._work[: features.shape[0]]

    def _grow(self, n_classes: int, like: Tensor) -> None:
        have = self._counts.shape[0]
        if n_classes == have:
            return
        dim = like.shape[1]
        counts = torch.zeros(n_classes, dtype=torch.int64, device=like.device)
        sums, squares = like.new_zeros(n_classes, dim), like.new_zeros(n_classes, dim)
        if have:
            counts[:have], sums[:have], squares[:have] = self._counts, self._sums, self._squares
        else:
            self._cubic = like.new_zeros(dim)
        self._counts, self._sums, self._squares = counts, sums, squares
