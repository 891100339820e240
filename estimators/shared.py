"""How a value on a view becomes a Score: the part that every moment-based estimator has in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from estimators._rows_jackknife import changes_by_block, drawn_in, drawn_to_slopes
from estimators.blocks import BlockMoments
from estimators.case import Case
from estimators.compare import jackknife_stderr
from estimators.errors import Degenerate, EstimatorError, InvalidInput
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.view import View


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """Options of the moment-based estimators; each reads its own."""

    variant: str = ""
    nsigma: float = 0.6
    background: tuple[Tensor, Tensor] | None = None
    reference: ClassMoments | None = None


CREDITS = "credits"
"""Where a view's memo holds each image's part `[N]` in the value just computed, if it is a mean over images."""

SLOPES = "slopes"
"""Where the view of all images holds the derivative `[B]` of the value just computed in the weight of each block."""

NUMERICAL = (ArithmeticError, ValueError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]

Value = tuple[float, Mapping[str, float | int | bool | str]]
Estimate = Callable[[View, Options], Value]


def make_case(
    features: Tensor | ClassMoments | BlockMoments, labels: Tensor | None, blocks: Tensor | None, /, *, rows: bool
) -> Case:
    """The case for a public function's arguments; `rows` if the estimator looks at rows again."""
    if isinstance(features, Tensor):
        if labels is None:
            raise InvalidInput("features come with labels; without them give moments")
        check_features(features, labels)
        features, labels = features.detach(), labels.to(torch.int64)
        if blocks is None:
            return Case(ClassMoments.from_features(features, labels), features=features, labels=labels)
        if tuple(blocks.shape) != (features.shape[0],):
            raise InvalidInput(f"blocks must be [{features.shape[0]}], got shape {tuple(blocks.shape)}")
        moments = BlockMoments.from_features(features, labels, blocks)
        return Case(moments, features=features, labels=labels, blocks=blocks)
    if labels is not None or blocks is not None:
        raise InvalidInput("moments carry their labels and blocks: give neither beside them")
    total = features.total if isinstance(features, BlockMoments) else features
    if rows and total.rows is None:
        raise InvalidInput("this estimator looks at the rows again: give features and labels, not moments")
    return Case(features)


def check_features(features: Tensor, labels: Tensor, /) -> None:
    """Raise InvalidInput unless features are `[N, D]` with integer labels `[N]`."""
    if features.ndim != 2 or labels.ndim != 1 or features.shape[0] != labels.shape[0]:
        shapes = f"{tuple(features.shape)} and {tuple(labels.shape)}"
        raise InvalidInput(f"features must be [N, D] and labels [N], got {shapes}")
    if labels.dtype.is_floating_point or labels.dtype == torch.bool:
        raise InvalidInput(f"class labels must be integers, got {labels.dtype}; this estimator is for classification")


def evaluate_case(estimate: Estimate, case: Case, options: Options, /) -> Score:
    """The value with its replicates and standard error, where the case has blocks."""
    found = Collected()
    found.add(case.total, attempt(estimate, case.total, options))
    for block in range(case.n_blocks if case.n_blocks > 1 else 0):
        view = case.without(block)
        try:
            found.add(view, attempt(estimate, view, options))
        except EstimatorError as error:
            found.give_up(block, error)
            break
    return found.score()


def attempt(estimate: Estimate, view: View, options: Options, /) -> Value:
    """The value on a view; what linear algebra cannot do with its numbers is Degenerate."""
    try:
        return estimate(view, options)
    except NUMERICAL as error:
        raise out_of_range(error) from error


def out_of_range(error: Exception, /) -> Degenerate:
    """What is said where linear algebra or a logarithm fails on numbers too large, too small or too alike."""
    return Degenerate(f"not computable on these numbers, too large, too small or too alike: {error}")


class Collected:
    """One estimator's value and its replicates, as they come in view by view.

    An estimate that is a mean over images leaves each image's part of it in its view's memo under `CREDITS`: from how
    these change, what the jackknife counts twice is known. Others leave the value's slopes under `SLOPES`.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._values: list[float] = []
        self._diagnostics: Mapping[str, float | int | bool | str] = {}
        self._credits: Tensor | None = None
        self._changes: list[Tensor] = []
        self._blocks: Tensor | None = None
        self._slopes: list[float] = []
        self._no_error = ""

    def add(self, view: View, result: Value, /) -> None:
        """Take in the value of all images first, then those with a block left out, in block order."""
        value, diagnostics = result
        slopes = view.memo.pop(SLOPES, None)
        if isinstance(slopes, Tensor):
            self._slopes = slopes.tolist()
        own = view.memo.pop(CREDITS, None)
        if not self._values:
            self._diagnostics, self._blocks = diagnostics, view.row_blocks
            self._credits = own if isinstance(own, Tensor) else None
        elif isinstance(own, Tensor) and view.kept is not None:
            self._note_changes(own, view.kept)
        self._values.append(value)

    def give_up(self, block: int, error: EstimatorError, /) -> None:
        """The value stands, without an error: it is not defined with this block left out."""
        self._no_error = f"with block {block} left out: {error}"

    def _note_changes(self, own: Tensor, kept: Tensor) -> None:
        if self._credits is not None and self._blocks is not None:
            change, n_blocks = own - self._credits[kept], int(self._blocks.max()) + 1
            self._changes.append(changes_by_block(change, self._blocks[kept], n_blocks))

    def score(self) -> Score:
        """A Score of what came in."""
        value, *replicates = self._values
        if self._no_error:
            return finish(value, {**self._diagnostics, "no_error": self._no_error}, [])
        if self._slopes and len(self._slopes) == len(replicates):
            drawn, factor = drawn_to_slopes(replicates, self._slopes)
            return finish(value, {**self._diagnostics, "jackknife_factor": factor}, drawn)
        if self._credits is None or self._blocks is None or len(self._changes) != len(replicates):
            return finish(value, self._diagnostics, replicates)
        drawn, factor = drawn_in(replicates, self._changes, self._credits, self._blocks)
        return finish(value, {**self._diagnostics, "jackknife_factor": factor}, drawn)


def finish(value: float, diagnostics: Mapping[str, float | int | bool | str], replicates: list[float], /) -> Score:
    """A Score of a finite value; anything else is Degenerate."""
    if not all(math.isfinite(v) for v in (value, *replicates)):
        raise Degenerate("the value is not finite on this input")
    stderr = jackknife_stderr(replicates) if replicates else None
    return Score(value, stderr, diagnostics, tuple(replicates))
