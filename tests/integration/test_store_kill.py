"""A killed embedding run leaves a store that verifies clean and loses nothing complete; the benchmark kills 50."""

import random
from pathlib import Path

from tests.helpers.killing import RELATIVE, kill_once, prepare
from tests.helpers.zoo import TinyZoo


def test_a_run_killed_at_a_random_point_loses_nothing_that_was_complete(tmp_path: Path, tiny_zoo: TinyZoo) -> None:
    ground = prepare(tmp_path, tiny_zoo, each=40)
    rng = random.Random(2026)
    outcomes = [kill_once(ground, tmp_path / f"run {n}", rng) for n in range(2)]
    killed = [outcome for outcome in outcomes if outcome is not None]
    assert killed
    assert max(outcome.largest_difference for outcome in killed) <= RELATIVE
