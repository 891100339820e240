"""Which estimators a request names."""

from collections.abc import Sequence

from estimators.catalog import SPECS
from service.scoring.errors import UnknownEstimator

DEFAULT_PANEL = ("logme", "knn", "h_score")


def chosen(names: Sequence[str] | None, /) -> list[str]:
    """Names, each once: the default panel for None, every estimator for `all`.

    Raises:
        UnknownEstimator: A name that no estimator has.
    """
    wanted = [name.strip() for name in names] if names is not None else list(DEFAULT_PANEL)
    if wanted == ["all"]:
        return list(SPECS)
    for name in wanted:
        if name not in SPECS:
            raise UnknownEstimator(f"There is no estimator '{name}'; the known ones are {', '.join(sorted(SPECS))}.")
    return list(dict.fromkeys(wanted))
