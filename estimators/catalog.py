"""The table of estimators: what each needs and where it lives. Standard library only, so that the API can list it."""

from dataclasses import dataclass, field
from enum import StrEnum

from estimators.errors import InvalidInput


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
    takes_label_free: bool = False  # the entry point has an option `label_free=` (estimators.label_free)
    takes_blocks: bool = False  # the entry point has an option `blocks=` (block ids [N]) and fills Score.replicates


class _Specs(dict[str, EstimatorSpec]):
    """Asked for an estimator that a package brought and that is gone with it, the table says what to do."""

    def __missing__(self, name: str) -> EstimatorSpec:
        raise InvalidInput(f"the estimator '{name}' is not installed here: install the package that brings it")


SPECS: dict[str, EstimatorSpec] = _Specs()
"""Ours; a process's entry point appends those of installed packages (`zooscout.estimators`)."""

SPECS |= {
    "logme": EstimatorSpec(
        name="logme",
        version=3,
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
        version=3,
        title="H-score",
        entrypoint="estimators.h_score:h_score",
        needs=frozenset({Need.MOMENTS}),
        reference="Bao et al., ICIP 2019, arXiv:2212.10082; Ibrahim et al., 2022, arXiv:2110.06893",
        summary="Between-class variance in units of the shrunk covariance, less what random labels get",
        params=frozenset({"variant"}),
        takes_blocks=True,
    ),
    "lda": EstimatorSpec(
        name="lda",
        version=3,
        title="LDA, held out",
        entrypoint="estimators.lda:lda",
        needs=frozenset({Need.MOMENTS, Need.FEATURES}),
        reference="Fisher, Annals of Eugenics 7(2), 1936; Shao et al., ECCV 2022, arXiv:2207.03036",
        summary="Mean probability of the true class under a discriminant analysis fitted without the image",
        takes_blocks=True,
    ),
    "sfda": EstimatorSpec(
        name="sfda",
        version=3,
        title="SFDA, held out",
        entrypoint="estimators.sfda:sfda",
        needs=frozenset({Need.MOMENTS, Need.FEATURES}),
        comparable_across_width=False,
        reference="Shao et al., ECCV 2022, arXiv:2207.03036",
        summary="Discriminant analysis after hard images are pushed together, measured on images held out",
        params=frozenset({"variant"}),
        takes_blocks=True,
    ),
    "transrate": EstimatorSpec(
        name="transrate",
        version=5,
        title="TransRate",
        entrypoint="estimators.transrate:transrate",
        needs=frozenset({Need.MOMENTS, Need.FEATURES}),
        reference="Huang et al., ICML 2022, arXiv:2106.09362",
        summary="Coding rate that labels save, less what random labels save",
        params=frozenset({"variant"}),
        takes_blocks=True,
    ),
    "ped_lda": EstimatorSpec(
        name="ped_lda",
        version=3,
        title="PED + LDA",
        entrypoint="estimators.ped_lda:ped_lda",
        needs=frozenset({Need.MOMENTS, Need.FEATURES, Need.BACKGROUND}),
        comparable_across_width=False,
        reference="Li et al., ICCV 2023, arXiv:2308.15074",
        summary="Held-out LDA after classes that overlap have pushed each other apart",
        params=frozenset({"variant", "nsigma"}),
        takes_blocks=True,
    ),
    "gbc": EstimatorSpec(
        name="gbc",
        version=5,
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
        version=3,
        title="PED + LogME",
        entrypoint="estimators.ped_logme:ped_logme",
        needs=frozenset({Need.MOMENTS, Need.BACKGROUND}),
        comparable_across_width=False,
        reference="Li et al., ICCV 2023, arXiv:2308.15074",
        summary="LogME after classes that overlap have pushed each other apart",
        params=frozenset({"variant", "nsigma"}),
        takes_blocks=True,
    ),
    "ped_gbc": EstimatorSpec(
        name="ped_gbc",
        version=5,
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
        version=2,
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
    "knn": EstimatorSpec(
        name="knn",
        version=2,
        title="kNN probe",
        entrypoint="estimators.knn:knn",
        needs=frozenset({Need.FEATURES}),
        tasks=frozenset(Task),
        reference="Cover and Hart, IEEE Transactions on Information Theory, 1967",
        summary="Leave-one-out accuracy of the nearest neighbours' vote",
        params=frozenset({"k", "metric", "test_features", "test_labels"}),
        takes_label_free=True,
        takes_blocks=True,
    ),
    "linear_probe": EstimatorSpec(
        name="linear_probe",
        version=2,
        title="Linear probe",
        entrypoint="estimators.linear_probe:linear_probe",
        needs=frozenset({Need.FEATURES}),
        tasks=frozenset(Task),
        reference="Alain and Bengio, ICLR 2017 workshop, arXiv:1610.01644",
        summary="Leave-one-out accuracy of a ridge classifier on the frozen features",
        params=frozenset({"probe", "max_rows", "test_features", "test_labels"}),
        takes_blocks=True,
    ),
    "nleep": EstimatorSpec(
        name="nleep",
        version=1,
        title="N-LEEP",
        entrypoint="estimators.nleep:nleep",
        needs=frozenset({Need.FEATURES}),
        comparable_across_width=False,
        states_error=False,
        reference="Li et al., CVPR 2021, arXiv:2011.11200",
        summary="How well a Gaussian mixture of the features, fitted without labels, predicts the label",
        params=frozenset({"components_per_class", "covariance", "seed"}),
    ),
    "parc": EstimatorSpec(
        name="parc",
        version=2,
        title="PARC",
        entrypoint="estimators.parc:parc",
        needs=frozenset({Need.FEATURES}),
        reference="Bolya et al., NeurIPS 2021, arXiv:2111.06977",
        summary="Rank correlation between how alike two images look to the model and whether they share a label",
        params=frozenset({"variant", "max_rows"}),
        takes_blocks=True,
    ),
    "sfda_published": EstimatorSpec(
        name="sfda_published",
        version=1,
        title="SFDA as published",
        entrypoint="estimators.sfda_published:sfda_published",
        needs=frozenset({Need.FEATURES}),
        comparable_across_width=False,
        states_error=False,
        reference="Shao et al., ECCV 2022, arXiv:2207.03036",
        summary="In-sample posterior of a shrunk discriminant analysis after confidence mixing; for parity with papers",
    ),
    "mmd": EstimatorSpec(
        name="mmd",
        version=2,
        title="Maximum mean discrepancy",
        entrypoint="estimators.mmd:mmd",
        needs=frozenset({Need.FEATURES, Need.REFERENCE_FEATURES}),
        tasks=frozenset(Task),
        direction=Direction.LOWER_IS_BETTER,
        reference="Gretton et al., JMLR 13, 2012",
        summary="Unbiased kernel distance between target and reference features, at the median kernel width",
        params=frozenset({"max_rows"}),
        arguments=("features", "reference_features"),
        takes_blocks=True,
    ),
    "proxy_a_distance": EstimatorSpec(
        name="proxy_a_distance",
        version=4,
        title="Proxy A-distance",
        entrypoint="estimators.proxy_a_distance:proxy_a_distance",
        needs=frozenset({Need.FEATURES, Need.REFERENCE_FEATURES}),
        tasks=frozenset(Task),
        direction=Direction.LOWER_IS_BETTER,
        reference="Ben-David et al., NeurIPS 2006",
        summary="How well a linear classifier tells target features from reference features",
        params=frozenset({"max_rows"}),
        arguments=("features", "reference_features"),
        takes_blocks=True,
    ),
    "otdd": EstimatorSpec(
        name="otdd",
        version=1,
        title="Optimal transport dataset distance",
        entrypoint="estimators.otdd:otdd",
        needs=frozenset({Need.FEATURES, Need.REFERENCE_FEATURES}),
        direction=Direction.LOWER_IS_BETTER,
        comparable_across_width=False,
        states_error=False,
        reference="Alvarez-Melis and Fusi, NeurIPS 2020, arXiv:2002.02923",
        summary="Cost of moving the target's features, classes and all, onto the reference set's",
        params=frozenset({"reference_labels", "max_rows", "n_components"}),
        arguments=("features", "labels", "reference_features"),
    ),
    "leep": EstimatorSpec(
        name="leep",
        version=2,
        title="LEEP",
        entrypoint="estimators.leep:leep",
        needs=frozenset({Need.SOURCE_PROBS}),
        reference="Nguyen et al., ICML 2020, arXiv:2002.12462",
        summary="Mean log probability of the label, predicted from the model's own source classes",
        arguments=("source_probs", "labels"),
        takes_blocks=True,
    ),
    "nce": EstimatorSpec(
        name="nce",
        version=2,
        title="NCE",
        entrypoint="estimators.nce:nce",
        needs=frozenset({Need.SOURCE_PROBS}),
        reference="Tran et al., ICCV 2019, arXiv:1908.08142",
        summary="Minus the entropy of the label given the model's most probable source class",
        arguments=("source_probs", "labels"),
        takes_blocks=True,
    ),
    "zero_shot": EstimatorSpec(
        name="zero_shot",
        version=2,
        title="Zero-shot accuracy",
        entrypoint="estimators.zero_shot:zero_shot",
        needs=frozenset({Need.FEATURES, Need.TEXT_PROTOTYPES}),
        reference="Radford et al., ICML 2021, arXiv:2103.00020",
        summary="Accuracy of the class name nearest to the image in a joint image-text space",
        arguments=("features", "labels", "text_prototypes"),
        takes_blocks=True,
    ),
}
