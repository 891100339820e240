"""Faults of every kind while rankings are made: nothing acknowledged is lost, and every number comes out the same."""

import itertools
import os
import tempfile
from pathlib import Path

import pytest

from tests.helpers.zoo import TinyZoo
from tests.soak.drive import Log, sized, soak
from tests.soak.plan import faults, steps

SEED = 2026


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_nothing_is_lost_while_everything_is_killed_paused_and_cut_off(tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    """Bounded to about SOAK_SECONDS (90); `make soak` runs the whole of it."""
    rankings, seconds, gap = sized(float(os.environ.get("SOAK_SECONDS", "90")))
    # Not pytest's own folder: PostgreSQL's user may not enter that one.
    with tempfile.TemporaryDirectory(prefix="zs-soak-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with (tmp_path / "soak.log").open("w") as out:
            outcome = soak(
                Path(name),
                tiny_zoo,
                seed=SEED,
                rankings=rankings,
                seconds=seconds,
                mean_gap=gap,
                log=Log(out, SEED),
            )
    assert outcome.problems == []
    assert (outcome.rankings, outcome.faults > 5) == (rankings, True)


def test_a_seed_asks_and_breaks_the_same_again() -> None:
    names = [f"model.{number}" for number in range(12)]
    assert steps(3, 40, names) == steps(3, 40, names) != steps(4, 40, names)
    assert faults(3, 600.0, mean_gap=1.0) == faults(3, 600.0, mean_gap=1.0) != faults(4, 600.0, mean_gap=1.0)
    asked = [step for mine in steps(3, 40, names) for step in mine]
    assert sum(step.kind == "rank" for step in asked) == 40
    assert {step.kind for step in asked} == {"upload", "version", "rank", "cancel", "discard"}
    planned = faults(3, 600.0, mean_gap=1.0)
    assert {fault.target for fault in planned} == (
        {"worker-0", "worker-1", "worker-ray", "ray-node-0", "ray-node-1", "ray-head"}
        | {"api", "clients", "postgres", "store"}
    )
    for target in {fault.target for fault in planned}:
        mine = [fault for fault in planned if fault.target == target]
        assert all(one.at + one.seconds < other.at for one, other in itertools.pairwise(mine))
