"""A share of the fuzz of archives and images; `make fuzz-uploads` sends five hundred."""

from pathlib import Path

from tests.helpers.besieged import besiege
from tests.helpers.service import settings_for

INPUTS = 96
MAY_GROW = 50 << 20


def test_hostile_uploads_leave_nothing_behind(tmp_path: Path) -> None:
    siege = besiege(settings_for(tmp_path / "data", None), tmp_path, INPUTS, seed=0, weigh_at={48, INPUTS})
    assert siege.wrong == []
    assert siege.inputs == INPUTS
    assert {"sealed", "refused", "413", "415", "422"} <= set(siege.answers)
    assert siege.weight(INPUTS) - siege.weight(48) < MAY_GROW, siege.weights
