"""Ten thousand made-up requests to a running service: `make fuzz-api`. See README-api.md.

The service runs as it is installed (`zooscout serve`, SQLite and PostgreSQL), with a project that has something of
everything; schemathesis reads the service's own description and sends what fits it and what does not, once without
keys, once with one, once without the key that is asked for. Exit code 1 where anything was found.
"""

import argparse
import json
import math
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import schemathesis

from service.core.settings import ServerSettings
from tests.helpers import fuzzing
from tests.helpers.besieged import served
from tests.helpers.databases import PostgresServer
from tests.helpers.inhabited import bearer, inhabit
from tests.helpers.service import running, settings_for, wait_until
from tests.helpers.zoo import make_zoo

DOORS = ("no key is asked", "with a key", "without the key")
PHASES = ("examples", "coverage", "fuzzing", "stateful")


def attack(folder: Path, url: str | None, door: str, /, *, examples: int, seed: int, seconds: float) -> fuzzing.Found:
    keyed = door != DOORS[0]
    settings = settings_for(folder / "data", url).model_copy(update={"server": ServerSettings(require_key=keyed)})
    with running(settings) as on:
        headers = bearer(on, "fuzzed") if keyed else {}
        known = inhabit(on, make_zoo(folder).good[:2], headers)
    log = folder / "log"
    with served(settings, log, "--no-worker", ZOOSCOUT_SERVER__REQUIRE_KEY=str(keyed)) as process:
        wait_until(lambda: "zooscout is at" in log.read_text(), why="serve starts")
        [address] = re.findall(r"zooscout is at (http://\S+)", log.read_text())
        sent = headers if door == DOORS[1] else {}
        chosen = fuzzing.config(seed=seed, examples=examples, phases=PHASES, headers=sent)
        wait_until(lambda: _answers(address), why="the API answers")
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=chosen)
        fuzzing.know(schema, known)
        found = fuzzing.run(schema, seconds=seconds)
        if process.poll() is not None:
            found.failures["the service"] = f"was gone with status {process.returncode}"
    for line in log.read_text().splitlines():
        if "Traceback" in line or "request.failed" in line:
            found.failures.setdefault(f"log: {line.partition(' reference=')[0][24:200]}", "")
    return found


def _answers(address: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{address}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=40, help="generated requests an endpoint (40: > 10,000 in all)")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--seconds", type=float, default=math.inf, help="of each of the six runs, at most")
    parser.add_argument("--only", choices=["sqlite", "postgresql"])
    parser.add_argument("--door", choices=DOORS)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    failures: dict[str, str] = {}
    rows = []
    with tempfile.TemporaryDirectory(prefix="zs-fuzz-", ignore_cleanup_errors=True) as folder:
        postgres = None if chosen.only == "sqlite" else PostgresServer(Path(folder))
        try:
            for kind in ("sqlite", "postgresql") if chosen.only is None else (chosen.only,):
                for door in DOORS if chosen.door is None else (chosen.door,):
                    # Without its key nothing is behind the door: fewer will do.
                    examples = max(1, chosen.examples // 8) if door == DOORS[2] else chosen.examples
                    place = Path(folder) / f"{kind} {door}"
                    place.mkdir()
                    url = postgres.migrated() if postgres is not None and kind == "postgresql" else None
                    began = time.monotonic()
                    found = attack(place, url, door, examples=examples, seed=chosen.seed, seconds=chosen.seconds)
                    rows.append(
                        {
                            "database": kind,
                            "door": door,
                            "cases": found.cases,
                            "endpoints": len(found.operations),
                            "reached": len(found.beyond_the_door),
                            "not reached": sorted(set(found.operations) - found.beyond_the_door),
                            "statuses": dict(sorted(found.statuses.items())),
                            "found": len(found.failures),
                            "seconds": round(time.monotonic() - began),
                        }
                    )
                    failures |= {f"{kind}, {door}: {key}": value for key, value in found.failures.items()}
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        finally:
            if postgres is not None:
                postgres.stop()
    total = sum((Counter(row["statuses"]) for row in rows), Counter())
    summary = {"seed": chosen.seed, "cases": sum(row["cases"] for row in rows), "statuses": dict(sorted(total.items()))}
    if chosen.json:
        print(json.dumps({**summary, "runs": rows, "failures": failures}, indent=1))
    else:
        print(f"{summary['cases']:,} cases (seed {chosen.seed}); {len(failures)} things found; statuses {dict(total)}")
        for key, value in failures.items():
            print(f"- {key}\n  {value}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
