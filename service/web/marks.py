"""A ranking's scores as places on a line from 0 to 1000, for a figure that needs no script. Pure."""

from typing import Any

from service.rankings.display import value_and_error
from service.rankings.schemas import RankingView

SHOWN = 50
WIDTH = 1000.0


def marks(view: RankingView, /) -> list[dict[str, Any]]:
    """Of each of the first models: its name, its value in words, and x, low and high."""
    scored = [
        (entry, score)
        for entry in view.entries
        if (score := entry.scores.get(view.ordered_by)) is not None and score.value is not None
    ][:SHOWN]
    ends = [
        (score.value - (score.stderr or 0.0), score.value, score.value + (score.stderr or 0.0))
        for _, score in scored
        if score.value is not None
    ]
    if not ends:
        return []
    low, high = min(e[0] for e in ends), max(e[2] for e in ends)
    span = (high - low) or 1.0
    first = scored[0][0]
    return [
        {
            "model": entry.model,
            "said": " ± ".join(part for part in value_and_error(score) if part),
            "low": round((a - low) / span * WIDTH, 1),
            "x": round((b - low) / span * WIDTH, 1),
            "high": round((c - low) / span * WIDTH, 1),
            "best": entry.model == first.model or entry.model in first.tied_with,
        }
        for (entry, score), (a, b, c) in zip(scored, ends, strict=True)
    ]
