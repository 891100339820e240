"""A recommendation as values: the API, the command line and the client show this one shape."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    max_params: int | None = None
    max_input_size: int | None = None
    max_milliseconds: float | None = None
    licence: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceOf:
    """What the model's features say of the target: one estimator's score, and where it stands in its ranking."""

    estimator: str
    value: float
    stderr: float | None
    deviations: float | None  # from the ranking's mean score, in its standard deviations; larger is better
    probability_best: float | None  # of the best score of these models on another draw of the images


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorOf:
    """What outcomes on other datasets say, before the model has seen an image of this one."""

    basis: Literal["target", "record", "names"]
    value: float
    stderr: float | None
    accuracy: float | None
    interval: tuple[float, float] | None  # 90 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    rank: int | None
    model: str
    model_id: str
    evidence: EvidenceOf | None
    prior: PriorOf | None
    tied_with: tuple[str, ...]
    params: int | None
    input_size: int
    milliseconds: float | None
    licence: str | None
    on_front: bool  # no other is at least as good, as small and as fast
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Excluded:
    model: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    dataset: str
    dataset_id: str
    ranking: str | None
    ordered_by: Literal["evidence", "prior", "nothing"]
    said: tuple[str, ...]
    warnings: tuple[str, ...]
    entries: tuple[Recommended, ...]
    excluded: tuple[Excluded, ...]
