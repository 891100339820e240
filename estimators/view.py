"""What estimators see of a dataset: class means and within-class scatter, factored once and shared between them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.errors import Degenerate, InvalidInput
from estimators.linalg import ShiftedForm, gram
from estimators.moments import ClassMoments

_ROUGH_FROM = 512  # dimensions from which a replicate's scatter is reduced in float32


class View:
    """A set of labelled images in the coordinates in which its linear algebra is cheapest.

    With at least as many images as dimensions these are the features' own. With fewer, everything that does not change
    under a rotation is computed in the span of the rows, an `[N, N]` problem; the remaining dimensions hold nothing.

    The total scatter about any centre is the within-class scatter W plus one of rank at most C made of class means.
    So one factorisation of W serves every shifted inverse of W, of the total and of the raw second moment, and also of
    the same data with class means moved (PED moves nothing else): only `C x C` matrices differ.

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
    ) -> None:
        """Wrap moments; `kept` are the rows of `parent` that remain."""
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
        self._may_be_rough = parent is not None and self.dim >= _ROUGH_FROM and not self.compressed
        self._shifted: dict[float, tuple[Tensor, float]] = {}

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
    def within(self) -> Tensor:
        """Within-class scatter W `[r, r]` float64 in working coordinates."""
        if not self.compressed:
            return self.moments.within_scatter()
        residual = self.coordinates - self.means[self.row_classes]
        return gram(residual, residual.new_zeros(residual.shape[1]))

    @cached_property
    def within_trace(self) -> float:
        """Trace of W, from the squares per class and dimension."""
        m = self.moments
        return float((m.variances * self.counts[:, None]).sum())

    @cached_property
    def within_squared(self) -> float:
        """Sum of the squares of W's entries."""
        flat = self.within.reshape(-1)
        return float(flat @ flat)

    @cached_property
    def form(self) -> ShiftedForm:
        """W, prepared for shifted systems; with a block left out, in float32 until a shift is too small (`form_at`)."""
        return ShiftedForm(self.within, rough=self._may_be_rough)

    def form_at(self, shift: float, /) -> ShiftedForm:
        """W, prepared for a system with this shift; the basis of `rotated_means` is its own."""
        if self._may_be_rough and not self.form.resolves(shift):
            self._may_be_rough = False
            self.__dict__.pop("form")
            self.__dict__.pop("rotated_means", None)
        return self.form

    @cached_property
    def rotated_means(self) -> Tensor:
        """Class means `[r, C]` in the basis of `form`."""
        return self.form.rotate(self.means.T)

    def mean_products(self, shift: float, /) -> tuple[Tensor, float]:
        """`M (W + shift I)^-1 M^T` `[C, C]` for the class means M, and `log det (W + shift I)`."""
        if shift not in self._shifted:
            solved, logdet = self.form_at(shift).solve(self.rotated_means, shift)
            product = self.rotated_means.T @ solved
            self._shifted[shift] = (0.5 * (product + product.T), logdet)
        return self._shifted[shift]

    def mean_products_and_derivative(self, shift: float, /) -> tuple[Tensor, Tensor]:
        """`M (W + shift I)^-1 M^T` and `M (W + shift I)^-2 M^T`, both `[C, C]`."""
        solved, _ = self.form_at(shift).solve(self.rotated_means, shift)
        product = self.rotated_means.T @ solved
        return 0.5 * (product + product.T), solved.T @ solved

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
        if total <= 1e-24 * scale:
            raise Degenerate("constant features: every row is the same")
        if self.within_trace <= 1e-14 * total * self.n:
            raise Degenerate("no spread within any class: every class is a single point")


class Case:
    """A dataset and its blocks: the view of all images, and of all but one block."""

    def __init__(
        self,
        moments: BlockMoments | ClassMoments,
        /,
        *,
        features: Tensor | None = None,
        labels: Tensor | None = None,
        blocks: Tensor | None = None,
    ) -> None:
        """From moments and, where an estimator looks at rows again, the rows with their class ids and blocks."""
        self.blocks = moments if isinstance(moments, BlockMoments) else None
        total = moments.total if isinstance(moments, BlockMoments) else moments
        classes = None
        if total.rows is None and features is not None and labels is not None:
            classes = torch.searchsorted(torch.tensor(total.labels, device=features.device), labels.to(features.device))
            self._block_of_row = None if blocks is None else blocks.to(features.device)
            self.total = View(total, features=features, classes=classes)
        else:
            self._block_of_row = None
            self.total = View(total)
            if self.blocks is not None:
                sizes = torch.tensor([part.n for part in self.blocks.parts])
                self._block_of_row = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(total.shift.device)
        self.total.parts = self.blocks.parts if self.blocks is not None and self.n_blocks > 1 else ()
        self.total.row_blocks = self._block_of_row if self.n_blocks > 1 else None

    @property
    def n_blocks(self) -> int:
        """Number of blocks; 1 where there is nothing to leave out."""
        return self.blocks.n_blocks if self.blocks is not None else 1

    def without(self, block: int, /) -> View:
        """The view with one block left out."""
        if self.blocks is None:
            raise InvalidInput("there are no blocks to leave out")
        kept = None if self._block_of_row is None else self._block_of_row != block
        return View(self.blocks.without(block), parent=self.total, kept=kept)
