from service.core.errors import Conflict


class DatasetRefusedForRanking(Conflict):
    """The dataset was refused, so that nothing can be ranked on it."""
