"""A dataset and its blocks, as the views that estimators are evaluated on."""

from __future__ import annotations

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.errors import InvalidInput
from estimators.label_free import LabelFree
from estimators.moments import ClassMoments
from estimators.view import View


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
        label_free: LabelFree | None = None,
    ) -> None:
        """From moments and, where an estimator looks at rows again, the rows with their class ids and blocks."""
        self.blocks = moments if isinstance(moments, BlockMoments) else None
        self._label_free = label_free
        total = moments.total if isinstance(moments, BlockMoments) else moments
        classes = None
        if total.rows is None and features is not None and labels is not None:
            classes = torch.searchsorted(torch.tensor(total.labels, device=features.device), labels.to(features.device))
            if blocks is not None:  # of any numbers: parts are counted from 0
                blocks = torch.unique(blocks.to(features.device), return_inverse=True)[1]
            self._block_of_row = blocks
            self.total = View(total, features=features, classes=classes, label_free=label_free)
        else:
            self._block_of_row = None
            self.total = View(total, label_free=label_free)
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
        part = self.blocks.parts[block]
        if self.total.compressed:
            return View(self.blocks.without(block), parent=self.total, kept=kept)
        moments = self.total.moments.minus(part, scatter=False)
        return View(moments, parent=self.total, kept=kept, part=part, block=block, label_free=self._label_free)
