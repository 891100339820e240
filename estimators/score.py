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
    """

    value: float
    stderr: float | None = None
    diagnostics: Mapping[str, float | int | bool | str] = field(default_factory=dict)
