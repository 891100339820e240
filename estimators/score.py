"""The result type that every estimator returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Score:
    """One estimator's output for one (model, dataset) pair.

    Attributes:
        value: The score, in the estimator's own range and direction (see its spec).
        stderr: Standard error of `value` over resampled images, or None where none is stated.
        diagnostics: How the number came about: converged, n_iter, rank, shrinkage, nsigma ...
        replicates: The value with one block of images left out, in block order (see `estimators.blocks`); empty where
            none were asked for or the estimator states no error. Two models scored on the same blocks are compared
            through the differences of their replicates (`estimators.compare`).
    """

    value: float
    stderr: float | None = None
    diagnostics: Mapping[str, float | int | bool | str] = field(default_factory=dict)
    replicates: tuple[float, ...] = ()
