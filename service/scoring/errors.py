from service.core.errors import InvalidRequest


class UnknownEstimator(InvalidRequest):
    """The request names an estimator that does not exist, or one whose evidence is not gathered."""


class BadArrays(InvalidRequest):
    """The arrays that were brought to be scored cannot be read or do not fit together."""


class NotComparable(InvalidRequest):
    """The estimator's values depend on the number of features, and the models differ in it."""
