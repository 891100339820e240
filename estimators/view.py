"""What estimators see of a dataset: class means and within-class scatter, factored once and shared between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from estimators.errors import Degenerate, InvalidInput
from estimators.label_free import WHOLE, LabelFree
from estimators.linalg import gram
from estimators.moments import ClassMoments
from estimators.shifted import ShiftedForm, largest_trace

_ROUGH_FROM = 512  # dimensions from which a replicate's scatter is reduced in float32
_LEAST, _LEAST_ROUGH = 1e-4, 1e-2  # in float32 a replicate is then off by 0.006 of their spread
_SQUARED = 1e-140  # below it, squares of squares vanish
_WIDENED = 64  # rows of a matrix that are taken to float64 together
_EXACT = "exact"  # where a view's memo holds that float32 does not do for its replicates


class View:
    """A set of labelled images in the coordinates in which its linear algebra is cheapest.

    With at least as many images as dimensions these are the features' own. With fewer, everything that does not change
    under a rotation is computed in the span of the rows, an `[N, N]` problem; the remaining dimensions hold nothing.

    The total scatter T about the mean is the within-class scatter W plus one of rank at most C made of class means.
    So one factorisation of T serves every shifted inverse of T, of W and of the raw second moment, and also of the same
    data with class means moved (PED moves nothing else): only `C x C` matrices differ. And no label changes T.

    Attributes:
        moments: The class moments.
        n: Number of images.
        dim: Number of feature dimensions D.
        counts: Images per class `[C]`, float64.
        features: Rows `[N, D]`, or None where only moments are known; with a block left out, `rows` takes the parent's.
        parent: The view of all images, if this one has a block left out.
        parts: Moments of each block, if this is the view of all images and there are blocks.
        row_blocks: Block of each row of `features` `[N]`, or None where there are no blocks.
        memo: What an estimator found on this view and wants to start from where a block is left out.
    """

    def __init__(
        self,
        moments: ClassMoments,
        /,
        *,
        features: Tensor | None = None,
        classes: Tensor | None = None,
        parent: View | None = None,
        kept: Tensor | None = None,
        part: ClassMoments | None = None,
        block: int = WHOLE,
        label_free: LabelFree | None = None,
    ) -> None:
        """Wrap moments; `kept` are the rows of `parent` that remain, `part` the moments of the block left out."""
        self.moments = moments
        self.n = moments.n
        self.dim = moments.dim
        self.counts = moments.counts.to(torch.float64)
        self.features = moments.rows if features is None else features
        self._classes = moments.row_labels if features is None else classes
        self.parent = parent
        self.kept = kept
        self.parts: tuple[ClassMoments, ...] = ()
        self.row_blocks: Tensor | None = None
        self.memo: dict[str, object] = {}
        # elsewhere forms are eigenvectors, in float64
        near = parent is not None and _EXACT not in parent.memo and moments.shift.device.type == "cpu"
        self._may_be_rough = near and self.dim >= _ROUGH_FROM and not self.compressed
        self.part = part
        self._block = block
        self._forms = None if label_free is None or self.compressed else label_free.forms

    @property
    def n_classes(self) -> int:
        """Number of classes present."""
        return self.moments.n_classes

    @property
    def compressed(self) -> bool:
        """Whether the working coordinates span the rows only (fewer images than dimensions)."""
        return self.moments.rows is not None

    @cached_property
    def coordinates(self) -> Tensor:
        """The rows `[N, r]` float64 in working coordinates, where there are fewer rows than dimensions."""
        if self.moments.rows is None:
            raise InvalidInput("rows are not compressed: there are at least as many as dimensions")
        if self.parent is not None and self.kept is not None and self.parent.compressed:
            return self.parent.coordinates[self.kept]
        # X^T = Q R gives X = R^T Q^T: the rows of R^T are X in an orthonormal basis, with no squared condition number
        factor: Tensor = torch.linalg.qr(self.moments.rows.to(torch.float64).T, mode="r").R
        return factor.T.contiguous()

    @cached_property
    def means(self) -> Tensor:
        """Class means `[C, r]` float64 in working coordinates, not centred."""
        if not self.compressed:
            return self.moments.means
        labels = self.row_classes
        sums = self.coordinates.new_zeros(self.n_classes, self.coordinates.shape[1])
        return sums.index_add(0, labels, self.coordinates) / self.counts[:, None]

    @cached_property
    def mean(self) -> Tensor:
        """Mean of all rows `[r]` float64 in working coordinates."""
        return self.moments.mean if not self.compressed else self.counts @ self.means / self.n

    @cached_property
    def offsets(self) -> Tensor:
        """Class means less the mean of all, times the root of their counts: `[C, r]`, whose Gram is T - W."""
        return self.counts.sqrt()[:, None] * (self.means - self.mean)

    @cached_property
    def total(self) -> Tensor:
        """Total scatter T about the mean of all `[r, r]` float64 in working coordinates."""
        if self.compressed:
            return gram(self.coordinates, self.mean)
        if self.parent is None or self.part is None:
            return self.moments.total_scatter()
        part, step = self._leaving()
        return (
            self.parent.total - part.total_scatter() - torch.outer(step, step) * (part.n * (self.n + part.n) / self.n)
        )

    def _leaving(self) -> tuple[ClassMoments, Tensor]:
        """The block left out, and how far its mean lies from the mean of all."""
        if self.parent is None or self.part is None:
            raise InvalidInput("no block is left out")
        return self.part, self.part.mean - self.parent.mean

    @cached_property
    def _rough_total(self) -> Tensor:
        """The same with a block left out, in float32: one product where the block keeps rows."""
        part, step = self._leaving()
        if self.parent is None or part.rows is None:
            return self.total.to(torch.float32)
        rows = part.rows.new_empty(part.n + 1, self.dim, dtype=torch.float32)
        rows[:-1] = part.rows - self.parent.mean.to(part.rows.dtype)
        rows[-1] = step * (part.n / self.n**0.5)
        return torch.addmm(self.parent._single_total, rows.T, rows, alpha=-1)

    @cached_property
    def _single_total(self) -> Tensor:
        return self.total.to(torch.float32)

    def total_inner(self, other: Tensor, /) -> float:
        """Sum of the products of T's entries and another matrix's `[r, r]`."""
        total = self._rough_total if self._may_be_rough else self.total
        if total.dtype == torch.float64:
            return float(other.reshape(-1) @ total.reshape(-1))
        # a few rows at a time are widened in the cache
        parts = zip(torch.split(other, _WIDENED), torch.split(total, _WIDENED), strict=True)
        return sum(float(left.reshape(-1) @ right.reshape(-1).to(torch.float64)) for left, right in parts)

    @cached_property
    def within(self) -> Tensor:
        """Within-class scatter W `[r, r]` float64 in working coordinates."""
        return torch.addmm(self.total, self.offsets.T, self.offsets, alpha=-1)

    @cached_property
    def within_trace(self) -> float:
        """Trace of W, from the squares per class and dimension."""
        m = self.moments
        return float((m.variances * self.counts[:, None]).sum())

    @cached_property
    def within_squared(self) -> float:
        """Sum of the squares of W's entries."""
        offsets = self.rotated[:, :-1]
        across = float((offsets * self.form.multiply(offsets)).sum())
        return self.form.squared - 2 * across + float((offsets.T @ offsets).square().sum())

    @cached_property
    def quartic(self) -> float:
        """Sum of `|x - mean|^4` over all images."""
        d = self.moments.shift - self.moments.mean
        if self.moments.rows is not None or self.moments.second is not None:
            return self.moments.quartic_about_mean()
        moved = self.form.unrotate(self.form.multiply(self.form.rotate(d[:, None])))[:, 0]
        return self.moments.quartic_about_mean(moved)

    @cached_property
    def form(self) -> ShiftedForm:
        """T, prepared for shifted systems; with a block left out, in float32 until a shift is too small (`form_at`)."""
        if self._forms is not None and self._block in self._forms:
            return self._forms[self._block]
        if self._may_be_rough and self.parent is not None:
            found = ShiftedForm(self._rough_total, careful=self.parent.form.led)
        else:
            found = ShiftedForm(self.total)
        if self._forms is not None:
            self._forms[self._block] = found
        return found

    def form_at(self, shift: float, /) -> ShiftedForm:
        """T, prepared for a system with this shift; the basis of `rotated` is its own."""
        if not self.form.resolves(shift):
            self.refine()
        return self.form

    def refine(self) -> None:
        """Factor T again, in float64, as the other blocks will be at once."""
        self._may_be_rough = False
        if self.parent is not None:
            self.parent.memo[_EXACT] = True
        if self._forms is not None:
            self._forms.pop(self._block, None)
        for name in ("form", "rotated", "within_squared", "quartic"):
            self.__dict__.pop(name, None)

    @cached_property
    def rotated(self) -> Tensor:
        """`offsets` and the mean `[r, C + 1]` in the basis of `form`."""
        return self.form.rotate(torch.cat([self.offsets, self.mean[None]]).T)

    @property
    def least_share(self) -> float:
        """What share may be left of a quantity after nearly all is taken away, and still have digits enough."""
        return _LEAST_ROUGH if self.form.rough else _LEAST

    def half_solved(self, shifts: Sequence[float], /) -> Iterator[tuple[Tensor, Tensor]]:
        """`L^-1 rotated` `[S, r, C + 1]` and `log det (T + shift I)` `[S]`, a few shifts at a time."""
        return self.form_at(min(shifts)).half_solve(self.rotated, shifts)

    def norms(self, shifts: Sequence[float], /) -> tuple[Tensor, Tensor, Tensor]:
        """Squares of these columns `[S, C + 1]`, their products with the mean's, and `log det (T + shift I)` `[S]`."""
        form, low = self.form, min(shifts)
        if form.rough and len(shifts) > 1:
            try:
                found = form.norms(self.rotated, shifts)
                if form.resolves(low, trace=largest_trace(form, shifts, found[2])):
                    return found
            except Degenerate:
                pass
            self.refine()
        return self.form_at(low).norms(self.rotated, shifts)

    def mean_products(self, shifts: Sequence[float], /) -> tuple[Tensor, Tensor]:
        """`M (W + shift I)^-1 M^T` `[S, C, C]` for the class means M, and `log det (W + shift I)` `[S]`."""
        found = self._from_total(shifts)
        if found is None and self.form.rough:
            self.refine()
            found = self._from_total(shifts)
        return found if found is not None else self._from_within(shifts)

    def _from_total(self, shifts: Sequence[float]) -> tuple[Tensor, Tensor] | None:
        """None where W is too small a part of T in some direction for what is left of it to be known.

        With F the offsets and U = (T + shift)^-1, (W + shift)^-1 = U + U F^T (I - F U F^T)^-1 F U.
        """
        products, logdets = [], []
        back = torch.cat([self.counts.rsqrt().diag(), torch.ones_like(self.counts)[:, None]], 1)
        for half, logdet in self.half_solved(shifts):
            every = (half.mT @ half).to(torch.float64)
            factor = self._rest(every[:, :-1, :-1])
            if factor is None:
                return None
            along = torch.linalg.solve_triangular(factor, every[:, :-1], upper=False)
            products.append(back @ (every + along.mT @ along) @ back.T)
            logdets.append(logdet + 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1))
        return torch.cat(products), torch.cat(logdets)

    def _rest(self, explained: Tensor) -> Tensor | None:
        """Cholesky factors of I - F U F^T `[S, C, C]`, None where one is too near to singular."""
        identity = torch.eye(self.n_classes, dtype=torch.float64, device=explained.device)
        factor: Tensor
        factor, info = torch.linalg.cholesky_ex(identity - explained)
        if bool(info.any()) or float(factor.diagonal(dim1=1, dim2=2).square().min()) < self.least_share:
            return None
        return factor

    def _from_within(self, shifts: Sequence[float]) -> tuple[Tensor, Tensor]:
        form, rotated = self._within_form
        found = [((half.mT @ half).to(torch.float64), logdet) for half, logdet in form.half_solve(rotated, shifts)]
        return torch.cat([products for products, _ in found]), torch.cat([logdet for _, logdet in found])

    @cached_property
    def _within_form(self) -> tuple[ShiftedForm, Tensor]:
        form = ShiftedForm(self.within)
        return form, form.rotate(self.means.T)

    def solve_within(self, columns: Tensor, shift: float, /) -> tuple[Tensor, Tensor]:
        """`(W + shift I)^-1 M^T` `[r, C]`, M the class means, and `c^T (W + shift I)^-1 c` for columns c `[r, m]`."""
        n_classes, form = self.n_classes, self.form_at(shift)
        turned = form.rotate(columns)
        solved = form.solve(torch.cat([self.rotated, turned], 1), shift)
        offsets, along, own = self.rotated[:, :n_classes], solved[:, :n_classes], solved[:, n_classes + 1 :]
        factor = self._rest((offsets.T @ along)[None])
        if factor is None:
            form, means = self._within_form
            turned = form.rotate(columns)
            solved = form.solve(torch.cat([means, turned], 1), shift)
            return form.unrotate(solved[:, :n_classes]), (turned * solved[:, n_classes:]).sum(0)
        means = along / self.counts.sqrt() + solved[:, n_classes, None]
        means += along @ torch.cholesky_solve(offsets.T @ means, factor[0])
        beside = torch.linalg.solve_triangular(factor[0], offsets.T @ own, upper=False)
        return form.unrotate(means), (turned * own).sum(0) + beside.square().sum(0)

    @property
    def row_classes(self) -> Tensor:
        """Class index of each of the rows in `coordinates`, `[N]`."""
        if self.moments.row_labels is None:
            raise InvalidInput("these moments keep rows without their classes")
        return self.moments.row_labels

    def rows(self) -> tuple[Tensor, Tensor]:
        """The rows `[N, r]` in working coordinates and the class index `[N]` of each."""
        if self.compressed:
            return self.coordinates, self.row_classes
        if self.parent is not None and self.kept is not None:
            rows, classes = self.parent.rows()
            return rows[self.kept], self.own_classes(classes[self.kept])
        if self.features is None or self._classes is None:
            raise InvalidInput("this estimator looks at the rows again: give features and labels, not moments")
        return self.features, self._classes

    def own_classes(self, classes: Tensor, /) -> Tensor:
        """Class indices of the parent's rows in this view's classes, some of which may have gone with the block."""
        if self.parent is None or self.parent.moments.labels == self.moments.labels:
            return classes
        own = torch.tensor(self.moments.labels, device=classes.device)
        return torch.searchsorted(own, torch.tensor(self.parent.moments.labels, device=classes.device)[classes])

    def parts_by_class(self) -> Iterator[tuple[Tensor, ClassMoments]]:
        """Moments of each block about this view's point, with the class index that each of its classes has here."""
        own = torch.tensor(self.moments.labels)
        for part in self.parts:
            at = torch.searchsorted(own, torch.tensor(part.labels))
            yield at.to(self.counts.device), part.about(self.moments.shift)

    def require_classes(self) -> None:
        """Raise Degenerate where there are fewer than two classes."""
        if self.n_classes < 2:
            raise Degenerate("one class only: there is nothing to tell apart")

    def require_spread(self) -> None:
        """Raise Degenerate where every row is the same, or every class is a single point."""
        total = float(self.moments.std.square().sum())
        scale = float(self.moments.mean.square().sum()) + total
        if 0 < scale < _SQUARED:
            raise Degenerate(
                f"features too small to square (their root mean square is {scale**0.5:.0e}): scale them up"
            )
        if total <= 1e-24 * scale:
            raise Degenerate("constant features: every row is the same")
        if self.within_trace <= 1e-14 * total * self.n:
            raise Degenerate("no spread within any class: every class is a single point")
