"""What becomes of what failed: the whole decision as one table."""

import pytest

from service.jobs.fate import Cause, Fate, decide

UP, BLAMED = Fate(None), Fate(None, blamed=True)
ALONE = {
    # after 1, 2, 3 and 9 attempts of 3
    Cause.UNAVAILABLE: (Fate(2.0), Fate(4.0), Fate(8.0), UP),
    Cause.NODE_LOST: (Fate(2.0), Fate(4.0), Fate(8.0), UP),
    Cause.DOWNLOAD: (Fate(2.0), Fate(4.0), UP, UP),
    Cause.OUT_OF_MEMORY: (Fate(2.0), Fate(4.0), BLAMED, BLAMED),
    Cause.KILLED: (Fate(2.0), Fate(4.0), BLAMED, BLAMED),
    Cause.OVERDUE: (Fate(2.0), Fate(4.0), BLAMED, BLAMED),
    Cause.TOO_COSTLY: (BLAMED, BLAMED, BLAMED, BLAMED),
    Cause.BROKEN: (BLAMED, BLAMED, BLAMED, BLAMED),
}
TOGETHER = {
    Cause.UNAVAILABLE: (Fate(2.0), Fate(4.0), Fate(8.0), UP),
    Cause.NODE_LOST: (Fate(2.0), Fate(4.0), Fate(8.0), UP),
    Cause.DOWNLOAD: (Fate(2.0), Fate(4.0), UP, UP),
    Cause.OUT_OF_MEMORY: (Fate(2.0), Fate(4.0), UP, UP),
    Cause.KILLED: (Fate(0.0), Fate(0.0), UP, UP),
    Cause.OVERDUE: (Fate(0.0), Fate(0.0), UP, UP),
    Cause.TOO_COSTLY: (UP, UP, UP, UP),
    Cause.BROKEN: (UP, UP, UP, UP),
}


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("cause", Cause)
def test_the_table(cause: Cause, alone: bool) -> None:
    found = tuple(decide(cause, attempts=n, max_attempts=3, alone=alone) for n in (1, 2, 3, 9))
    assert found == (ALONE if alone else TOGETHER)[cause]


def test_no_wait_is_longer_than_five_minutes() -> None:
    assert decide(Cause.UNAVAILABLE, attempts=100, max_attempts=1000) == Fate(300.0)
