"""What no label changes: kept by whoever scores the same rows again under other labels."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from estimators._rows_search import Neighbourhood
from estimators.blocks import BlockMoments
from estimators.shifted import ShiftedForm

WHOLE = -1


@dataclass(slots=True, eq=False)
class LabelFree:
    """Hand the same object to every evaluation of the same rows in the same order; it fills itself.

    Attributes:
        forms: The factored total scatter of all rows (`WHOLE`), and without each block.
        neighbours: Nearest rows of each row, by metric and number.
    """

    forms: dict[int, ShiftedForm] = field(default_factory=dict)
    neighbours: dict[tuple[str, int], Neighbourhood] = field(default_factory=dict)
    _blocks: Tensor | None = None
    _moments: BlockMoments | None = None
    _around: tuple[Tensor, Tensor] | None = None  # a point, and the sum of outer products of all rows about it

    def moments(self, features: Tensor, labels: Tensor, blocks: Tensor, /) -> BlockMoments:
        """Moments by block; where blocks are as before, only what hangs on labels is summed again."""
        if self._moments is not None and self._blocks is not None and torch.equal(blocks, self._blocks):
            self._moments = self._moments.relabelled(features, labels, blocks)
        else:
            self.forms.clear()
            self._blocks = blocks
            self._moments = BlockMoments.from_features(features, labels, blocks, around=self._around)
            self._around = None
        return self._moments

    def grown(self, features: Tensor, positions: Tensor, /) -> LabelFree:
        """What is still known once there are more rows: those of before lie at `positions`, in their order."""
        found = {
            (metric, depth): near.grown(features, positions)
            for (metric, depth), near in self.neighbours.items()
            if metric == "cosine"
        }
        return LabelFree(neighbours=found, _around=self._grown_scatter(features, positions))

    def _grown_scatter(self, features: Tensor, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        if self._moments is None or self._moments.total.second is None:
            return None
        shift, second = self._moments.total.shift, self._moments.total.second
        new = torch.ones(features.shape[0], dtype=torch.bool, device=features.device)
        new[positions.to(features.device)] = False
        rows = features[new].to(torch.float64) - shift
        return shift, torch.addmm(second, rows.T, rows)

    @property
    def nbytes(self) -> int:
        """Memory that it takes, the rows themselves included."""
        held = [form.nbytes for form in self.forms.values()]
        held += [found.nbytes for found in self.neighbours.values()]
        if self._moments is not None:
            everything = (*self._moments.parts, self._moments.total)
            tensors = [each for m in everything for each in (m.sums, m.squares, m.second, m.rows) if each is not None]
            held += [each.numel() * each.element_size() for each in tensors]
        return sum(held)
