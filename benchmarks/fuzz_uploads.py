"""Five hundred hostile archives and images, uploaded to a running service: `make fuzz-uploads`. See README-api.md.

Exit code 1 where the service or its worker died, left anything of what was refused, or grew by more than 50 MB
between the 50th input and the last.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.besieged import besiege
from tests.helpers.service import settings_for

MAY_GROW = 50 << 20
FIRST = 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2026)
    chosen = parser.parse_args()
    marks = {FIRST, *range(100, chosen.inputs + 1, 100), chosen.inputs}
    with tempfile.TemporaryDirectory(prefix="zs-siege-", ignore_cleanup_errors=True) as folder:
        began = time.monotonic()
        settings = settings_for(Path(folder) / "data", None)
        siege = besiege(settings, Path(folder), chosen.inputs, seed=chosen.seed, weigh_at=marks)
    ended = siege.inputs == chosen.inputs
    grown = siege.weight(chosen.inputs) - siege.weight(FIRST) if ended else 0
    weights = ", ".join(f"{n}: {siege.weight(n) / 2**20:.0f}" for n in sorted(siege.weights))
    print(f"{siege.inputs} inputs (seed {chosen.seed}) in {time.monotonic() - began:.0f} s: {dict(siege.answers)}")
    print(f"resident MB of all processes of the service after so many inputs: {weights} ({grown / 2**20:+.0f})")
    for n, processes in sorted(siege.weights.items()):
        print(f"  {n}:", ", ".join(f"{name} {weight / 2**20:.0f}" for name, weight in processes.items()))
    for line in siege.wrong:
        print(f"- {line}")
    return 1 if siege.wrong or not ended or grown > MAY_GROW else 0


if __name__ == "__main__":
    sys.exit(main())
