"""The table of estimators: what each needs and where it lives. Standard library only, so that the API can list it."""

from dataclasses import dataclass, field
from enum import StrEnum


class Need(StrEnum):
    """Evidence that an estimator is computed from."""

    MOMENTS = "moments"
    FEATURES = "features"
    SOURCE_PROBS = "source_probs"
    BACKGROUND = "background"
    REFERENCE_FEATURES = "reference_features"
    TEXT_PROTOTYPES = "text_prototypes"


class Task(StrEnum):
    """Kind of labels an estimator is defined for."""

    CLASSIFICATION = "classification"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"


class Direction(StrEnum):
    """Whether a larger or a smaller value means better transfer."""

    HIGHER_IS_BETTER = "higher"
    LOWER_IS_BETTER = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatorSpec:
    """What the planner and the user need to know about an estimator before anything is computed."""

    name: str
    version: int  # +1 whenever the number changes for the same input
    title: str
    entrypoint: str  # "estimators.logme:logme"
    needs: frozenset[Need]
    tasks: frozenset[Task] = frozenset({Task.CLASSIFICATION})
    direction: Direction = Direction.HIGHER_IS_BETTER
    comparable_across_width: bool = True  # False: the planner refuses to rank models of different D by it
    states_error: bool = True  # a standard error comes with the value
    reference: str
    summary: str  # one line: what it measures
    params: frozenset[str] = field(default_factory=frozenset)  # names of the options it takes
    arguments: tuple[str, ...] = ("features", "labels")  # fields of Evidence that the entry point takes, in order
    takes_blocks: bool = False  # the entry point has an option `blocks=` (block ids [N]) and fills Score.replicates


SPECS: dict[str, EstimatorSpec] = {}
