"""kill -9 at random points of embedding runs: what is stored stays, to the bit, and the scores come out the same.

    python -m benchmarks.kill            # 50 runs
    python -m benchmarks.kill --runs 5

Each run is `zooscout rank` in a process group of its own, on a fresh copy of one data directory, with three small real
models and segments of 16 rows. It is killed at a random moment of its embedding; the store is verified, then a second
`zooscout rank` ends the work. Any assertion that does not hold stops the program.
"""

import argparse
import random
import tempfile
from pathlib import Path

from tests.helpers.killing import RELATIVE, SEGMENT_ROWS, kill_once, prepare
from tests.helpers.zoo import make_zoo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (folder / "zoo").mkdir()
        ground = prepare(folder, make_zoo(folder / "zoo"), each=given.images // 3)
        print(
            f"{ground.pairs} pairs of model and image, segments of {SEGMENT_ROWS};",
            "undisturbed " + ", ".join(f"{seconds:.1f} s from {moment}" for moment, seconds in ground.seconds.items()),
            flush=True,
        )
        outcomes, number = [], 0
        while len(outcomes) < given.runs:
            number += 1
            killed = kill_once(ground, folder / f"run {number}", rng)
            if killed is None:
                continue
            outcomes.append(killed)
            print(
                f"{len(outcomes):>3}  killed {killed.after_seconds:5.2f} s after {killed.moment} with {killed.rows:>5} "
                f"rows in {killed.segments:>4} segments, {killed.temporary} files unfinished; "
                f"scores within {killed.largest_difference:.1e}",
                flush=True,
            )
    worst = max(outcome.largest_difference for outcome in outcomes)
    some = sum(0 < outcome.rows < ground.pairs for outcome in outcomes)
    print(
        f"{len(outcomes)} runs killed, {some} of them with part of the work stored: every store verified clean, every "
        f"stored segment equal to the bit, nothing complete embedded again, scores within {worst:.1e} relative"
    )
    assert worst <= RELATIVE


if __name__ == "__main__":
    main()
