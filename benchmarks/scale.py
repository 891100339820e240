"""What a catalog of 100,000 models, 10,000 datasets and a thousand million embeddings costs, from measured unit costs.

    python -m benchmarks.scale --part rows --folder DIR       # bytes of a row of each table, lists of models (SQLite)
    python -m benchmarks.scale --part tasks --folder DIR      # a claim and an end of a task, by the length of the queue
    python -m benchmarks.scale --part scores                  # a service's panel of one model and dataset
    python -m benchmarks.scale --part simulate --claim-ms M   # the scheduler over all tasks, by the number of workers

The scenario: each dataset has 1,000 images and is ranked once over 100 of the models, in tasks of eight. The simulation
deals these tasks to workers in the order of the queue; each claim and each end of a task goes through the database one
after the other, at its measured time. Lost workers, and what is embedded already, are left out.
"""

import argparse
import heapq
import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, text
from starlette.testclient import TestClient

from benchmarks.seeding import DEFAULT_PROJECT, Size, digest, ident, postgres, seeded
from service.api.app import create_app
from service.core.clock import utc_now
from service.core.db import Database
from service.core.migrate import upgrade
from service.core.settings import DatabaseSettings, Settings
from service.embeddings.tables import SegmentRow
from service.jobs import repository as jobs
from service.jobs.model import TaskState
from service.jobs.tables import TaskRow
from service.rankings.planner import Candidate, group
from service.schema import all_tables
from tests.helpers.databases import open_database

MODELS, DATASETS, CANDIDATES, IMAGES, WIDTH = 100_000, 10_000, 100, 1_000, 768
AT_ONCE = 8
SEED = 20261121
BY_TABLE = """
SELECT m.tbl_name, SUM(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY m.tbl_name
"""


def milliseconds(act: Callable[[], object], rounds: int, /) -> str:
    """The median, and the least: on a machine with other work the truth lies between them."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return f"{1000 * statistics.median(taken):.2f} ms (least {1000 * min(taken):.2f})"


def segment(number: int) -> dict[str, object]:
    return {
        "id": ident("seg", number),
        "project_id": DEFAULT_PROJECT,
        "extractor_id": digest("extractor", number % 1000),
        "kind": "features",
        "state": "active",
        "storage": "float32",
        "n_rows": IMAGES,
        "dim": WIDTH,
        "bytes": IMAGES * (4 * WIDTH + 32),
        "vectors_sha256": digest("vectors", number),
        "hashes_sha256": digest("hashes", number),
        "created_at": utc_now(),
    }


def rows(folder: Path, /) -> None:
    database = seeded(folder, "sqlite", Size(models=MODELS, datasets=100, models_per_ranking=CANDIDATES))
    with database.write() as session:
        if not session.execute(text("SELECT COUNT(*) FROM segments")).scalar_one():
            session.execute(insert(SegmentRow), [segment(number) for number in range(20_000)])
    with database.read() as session:
        for name, size in sorted(session.execute(text(BY_TABLE)).all()):
            count = session.execute(text(f'SELECT COUNT(*) FROM "{name}"')).scalar_one()  # noqa: S608 - of this database
            if count >= 100:
                print(f"{name:20s} {count:>9,} rows {size / count:8.0f} bytes a row, indices included", flush=True)
    database.dispose()
    settings = Settings(data_dir=folder / "data", database=DatabaseSettings(pool_size=5), log_level="error")
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        for path in (
            "/v1/models?limit=50",
            "/v1/models?limit=50&sort=params",
            "/v1/models?limit=50&name=resnet*&max_params=30000000",
            "/v1/models?limit=50&text=imagenet",
            "/v1/rankings?limit=50",
            "/v1/datasets?limit=50",
        ):
            began = time.perf_counter()  # afterwards the answer is remembered until something is written
            client.get(path).raise_for_status()
            first = 1000 * (time.perf_counter() - began)
            again = milliseconds(lambda p=path: client.get(p).raise_for_status(), 7)
            print(f"{first:8.1f} ms, then {again}  GET {path}", flush=True)


def tasks(folder: Path, kind: str, /) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    all_tables()
    url = f"sqlite:///{folder / 'tasks.sqlite'}" if kind == "sqlite" else postgres(folder)
    database = open_database(url)
    upgrade(database)
    for length in (1_000, 130_000):
        with database.write() as session:
            session.execute(text("DELETE FROM tasks"))
            for start in range(0, length, 10_000):
                session.execute(insert(TaskRow), [queued(n) for n in range(start, min(start + 10_000, length))])
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
        taken = []
        claim = milliseconds(lambda found=taken: found.append(one_claim(database)), 200)
        waiting = iter(taken)
        end = milliseconds(lambda left=waiting: one_end(database, next(left)), 200)
        print(f"{kind}: {length:>8,} queued: a claim {claim}, an end {end}", flush=True)
    database.dispose()


def queued(number: int) -> dict[str, object]:
    payload = {"models": [ident("mdl", number * AT_ONCE + n) for n in range(AT_ONCE)], "images": IMAGES * AT_ONCE}
    return {
        "id": ident("tsk", number),
        "project_id": DEFAULT_PROJECT,
        "kind": "embed",
        "subject_id": ident("rk", number // 13),
        "payload": payload,
        "state": "queued",
        "priority": 10,
        "not_before": 0.0,
        "attempts": 0,
        "fence": 0,
        "progress": {},
        "created_at": utc_now(),
    }


def one_claim(database: Database) -> jobs.Task:
    with database.write() as session:
        found = jobs.claim(session, "benchmark", lease_seconds=600)
    if found is None:
        raise SystemExit("the queue is empty")
    return found


def one_end(database: Database, task: jobs.Task) -> None:
    with database.write() as session:
        jobs.finish(session, task, state=TaskState.DONE)


def scores() -> None:
    from benchmarks.estimators import evaluated, features
    from estimators.evidence import Evidence

    values, labels = features(IMAGES, WIDTH, 10, 0)
    evidence = Evidence(labels=labels, features=values)
    names = ("logme", "knn", "h_score")
    taken = statistics.median(sum(evaluated(evidence, names, True).values()) for _ in range(5))
    print(f"{', '.join(names)} with errors, {IMAGES:,} x {WIDTH}, 10 classes: {taken:.3f} s")


@dataclass(frozen=True, slots=True)
class Outcome:
    workers: int
    hours: float
    ideal_hours: float
    database_busy: float

    def line(self) -> str:
        return (
            f"| {self.workers:,} | {self.hours:,.2f} | {self.ideal_hours:,.2f} | {self.ideal_hours / self.hours:.0%} | "
            f"{self.database_busy:.0%} |"
        )


def durations(images_per_second: float, /) -> list[float]:
    """Seconds of every task in the order of the queue; models differ as a lognormal does, by 2.2 a deviation."""
    draw = random.Random(SEED)
    slowness = [draw.lognormvariate(-0.32, 0.8) for _ in range(MODELS)]  # 1 on the average
    found = []
    for _ in range(DATASETS):
        drawn = draw.sample(range(MODELS), CANDIDATES)
        candidates = [Candidate(str(n), str(n % 4), round(1e7 * slowness[n])) for n in drawn]
        dealt = group(candidates, models_per_task=AT_ONCE)
        found += [sum(slowness[int(ident)] for ident in members) * IMAGES / images_per_second for members in dealt]
    return found


def simulate(seconds: list[float], workers: int, /, *, claim: float, end: float) -> Outcome:
    """Workers ask when they are free; the database serves them one after the other."""
    free = [0.0] * workers
    answered = busy = last = 0.0
    for duration in seconds:
        asked = heapq.heappop(free)
        answered = max(asked, answered) + claim + end
        busy += claim + end
        heapq.heappush(free, answered + duration)
        last = max(last, answered + duration)
    return Outcome(workers, last / 3600, sum(seconds) / workers / 3600, busy / last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("rows", "tasks", "scores", "simulate"), required=True)
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench-scale"))
    parser.add_argument("--kind", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--claim-ms", type=float, default=3.0)
    parser.add_argument("--end-ms", type=float, default=2.0)
    parser.add_argument("--images-per-second", type=float, nargs="+", default=[60.0, 1000.0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 16, 64, 256, 1024, 4096])
    given = parser.parse_args()
    match given.part:
        case "rows":
            rows(given.folder)
        case "tasks":
            tasks(given.folder, given.kind)
        case "scores":
            scores()
        case _:
            for speed in given.images_per_second:
                dealt = durations(speed)
                print(json.dumps({"images_per_second": speed, "tasks": len(dealt)}))
                print("| workers | hours | without waiting | at work | database busy |\n|---|---|---|---|---|")
                for count in given.workers:
                    found = simulate(dealt, count, claim=given.claim_ms / 1000, end=given.end_ms / 1000)
                    print(found.line(), flush=True)


if __name__ == "__main__":
    main()
