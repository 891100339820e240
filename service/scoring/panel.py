"""Which estimators a request names."""

from collections.abc import Sequence

from estimators.catalog import SPECS
from service.scoring.errors import UnknownEstimator

DEFAULT_PANEL = ("logme", "knn", "ped_logme", "frechet")
OWN_FEATURES_PANEL = ("logme", "knn", "h_score")  # features that are brought seldom come with a reference set's


def chosen(names: Sequence[str] | None, /, *, default: Sequence[str] = DEFAULT_PANEL) -> list[str]:
    """Names, each once: the default panel for None, every estimator for `all`.

    Raises:
        UnknownEstimator: A name that no estimator has, or no name at all.
    """
    wanted = [name.strip() for name in names] if names is not None else list(default)
    if "all" in wanted:
        return list(SPECS)
    if not wanted:
        raise UnknownEstimator("Name at least one estimator, or leave them out for the usual ones.")
    for name in wanted:
        if name not in SPECS:
            raise UnknownEstimator(f"There is no estimator '{name}'; the known ones are {', '.join(sorted(SPECS))}.")
    return list(dict.fromkeys(wanted))
