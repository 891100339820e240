from service.core.errors import Conflict, InvalidRequest


class DatasetRefusedForRanking(Conflict):
    """The dataset was refused, so that nothing can be ranked on it."""


class ReferenceNeeded(InvalidRequest):
    """The models are to be ordered by an estimator that needs a reference set, and there is none."""
