"""How a score is shown, on the command line and on the pages alike."""

import math

from service.rankings.schemas import ScoreView


def rounded(score: ScoreView | None, /) -> str:
    """A value rounded to what its standard error allows (two digits of it)."""
    if score is None:
        return ""
    if score.value is None:
        return "n/a"
    if score.stderr is None or not math.isfinite(score.stderr) or score.stderr <= 0:
        return f"{score.value:.4g}"
    digits = min(8, max(0, 1 - math.floor(math.log10(score.stderr))))
    return f"{score.value:.{digits}f} ± {score.stderr:.{digits}f}"
