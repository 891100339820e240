from service.core.errors import Conflict, InvalidRequest


class DatasetRefusedForRanking(Conflict):
    """The dataset was refused, so that nothing can be ranked on it."""


class UnknownEstimator(InvalidRequest):
    """The request names an estimator that does not exist, or one whose evidence a ranking does not gather."""
