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


SPECS: dict[str, EstimatorSpec] = {
    "logme": EstimatorSpec(
        name="logme",
        version=1,
        title="LogME",
        entrypoint="estimators.logme:logme",
        needs=frozenset({Need.MOMENTS}),
        tasks=frozenset(Task),
        reference="You et al., ICML 2021, arXiv:2102.11005",
        summary="Log evidence of a linear model from features to labels, maximised exactly",
        params=frozenset({"variant"}),
        takes_blocks=True,
    ),
    "h_score": EstimatorSpec(
        name="h_score",
        version=1,
        title="H-score",
        entrypoint="estimators.h_score:h_score",
        needs=frozenset({Need.MOMENTS}),
        reference="Bao et al., ICIP 2019, arXiv:2212.10082; Ibrahim et al., 2022, arXiv:2110.06893",
        summary="Between-class variance in units of the shrunk covariance, less what random labels get",
        params=frozenset({"variant"}),
        takes_blocks=True,
    ),
    "gbc": EstimatorSpec(
        name="gbc",
        version=1,
        title="GBC",
        entrypoint="estimators.gbc:gbc",
        needs=frozenset({Need.MOMENTS}),
        comparable_across_width=False,
        reference="Pándy et al., CVPR 2022, arXiv:2111.12780",
        summary="How far apart the classes lie, as Gaussians with diagonal covariance",
        takes_blocks=True,
    ),
    "ped_logme": EstimatorSpec(
        name="ped_logme",
        version=1,
        title="PED + LogME",
        entrypoint="estimators.ped_logme:ped_logme",
        needs=frozenset({Need.MOMENTS, Need.BACKGROUND}),
        reference="Li et al., ICCV 2023, arXiv:2308.15074",
        summary="LogME after classes that overlap have pushed each other apart",
        params=frozenset({"variant", "nsigma"}),
        takes_blocks=True,
    ),
    "ped_gbc": EstimatorSpec(
        name="ped_gbc",
        version=1,
        title="PED + GBC",
        entrypoint="estimators.ped_gbc:ped_gbc",
        needs=frozenset({Need.MOMENTS, Need.BACKGROUND}),
        comparable_across_width=False,
        reference="Li et al., ICCV 2023, arXiv:2308.15074",
        summary="GBC after classes that overlap have pushed each other apart",
        params=frozenset({"nsigma"}),
        takes_blocks=True,
    ),
    "frechet": EstimatorSpec(
        name="frechet",
        version=1,
        title="Fréchet divergence",
        entrypoint="estimators.frechet:frechet",
        needs=frozenset({Need.MOMENTS, Need.BACKGROUND}),
        direction=Direction.LOWER_IS_BETTER,
        comparable_across_width=False,
        reference="Dowson, Landau, J. Multivariate Analysis 12(3), 1982",
        summary="How far the target's features lie from the reference set's",
        params=frozenset({"variant"}),
        arguments=("features", "labels", "reference_moments"),
        takes_blocks=True,
    ),
}
