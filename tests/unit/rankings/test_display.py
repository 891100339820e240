"""Numbers are shown to what their error allows."""

import pytest

from service.rankings.display import value_and_error
from service.rankings.schemas import ScoreView


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (-0.36349, 0.02449, ("-0.363", "0.024")),
        (0.0427, 0.0126, ("0.043", "0.013")),
        (123.456, 17.0, ("123", "17")),
        (0.5, None, ("0.5", "")),
        (1 / 3, 0.0, ("0.3333", "")),
        (1.0, float("inf"), ("1", "")),
        (None, None, ("n/a", "")),
    ],
)
def test_two_digits_of_the_error(value: float | None, stderr: float | None, shown: tuple[str, str]) -> None:
    score = ScoreView(value=value, stderr=stderr, diagnostics={}, degenerate=None, seconds=0.0)
    assert value_and_error(score) == shown


def test_no_score_shows_nothing() -> None:
    assert value_and_error(None) == ("", "")
