"""A recommendation as values: the API, the command line and the client show this one shape."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    max_params: int | None = None
    max_input_size: int | None = None
    max_milliseconds: float | None = None
    max_weights_bytes: int | None = None
    max_forward_bytes: int | None = None
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
class Driver:
    """What moves a model away from the mean candidate, in points of expected accuracy."""

    name: str
    points: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedOf:
    """Accuracy after fine-tuning, foretold from what `Recommendation.fit` says."""

    accuracy: float
    interval: tuple[float, float]  # 90 %, of an accuracy measured on 400 images
    probability_best: float  # of these candidates, by fine-tuned accuracy
    drivers: tuple[Driver, ...]  # the strongest first
    measured: float | None  # an outcome on this dataset, which the expectation has in it


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOf:
    """Means over datasets that were left out in turn."""

    datasets: int
    tau: dict[str, float]  # weighted Kendall's, of both together and of each half
    regret_1: dict[str, float]  # points of accuracy
    regret_3: dict[str, float]
    covered: float  # share of accuracies inside their 90 % intervals
    absolute_error: float  # points


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOf:
    """What foretold the accuracies: fitted again whenever an outcome or a ranking is new."""

    part: Literal["together", "evidence"]
    dated: str  # the newest outcome in it
    rows: int
    of_project: int  # of the rows
    datasets: int
    level: str | None  # the probe whose accuracy fine-tuning adds to
    weights: dict[str, float]  # of a deviation within the dataset, by score and of the record, in the dataset's spread
    check: CheckOf | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommended:
    rank: int | None
    model: str
    model_id: str
    expected: ExpectedOf | None
    evidence: EvidenceOf | None
    prior: PriorOf | None
    tied_with: tuple[str, ...]
    params: int | None
    input_size: int
    milliseconds: float | None
    licence: str | None
    weights_bytes: int | None  # in float32
    forward_bytes: int | None  # measured: weights, and the most that tensors hold while one image or text passes
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
    ordered_by: Literal["together", "evidence", "prior", "nothing"]
    fit: FitOf | None
    said: tuple[str, ...]
    warnings: tuple[str, ...]
    entries: tuple[Recommended, ...]
    excluded: tuple[Excluded, ...]


Kind = Literal["recommendation", "estimator", "size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDataset:
    """One dataset's outcomes by one recipe."""

    dataset: str
    dataset_id: str
    recipe: str
    models: int
    tau: float | None
    regret_1: float  # points of accuracy
    regret_3: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementOf:
    """Means over datasets; intervals are 90 % bootstraps over datasets, null below two."""

    name: str
    kind: Kind
    datasets: int
    pairs: int
    tau: float | None  # scipy.stats.weightedtau's default
    tau_interval: tuple[float, float] | None
    regret_1: float | None
    regret_3: float | None
    by_dataset: tuple[OnDataset, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    outcomes: int
    datasets: int  # with three fine-tuned models or more that a finished ranking scored
    entries: tuple[AgreementOf, ...]  # the best first
    said: tuple[str, ...]
