"""One run of the plan: clients ask, faults happen, and what came of it is looked at.

    make soak                                                   # 200 rankings
    SOAK_SECONDS=90 make soak                                   # as in `make test`
    python -m tests.soak.drive --seed 7 --rankings 40 --log soak.log
    python -m tests.soak.drive --replay soak.log                # the same requests, the same faults at the same times

The log has one line an event, as JSON. A second run with the same seed asks for the same and does the same at the same
seconds; `--replay` takes the faults' times from the log, where a busy machine was late.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tests.helpers.zoo import TinyZoo, make_zoo
from tests.soak import places, verdict
from tests.soak.clients import Caller, Ledger, add_models
from tests.soak.cluster import ray_cluster
from tests.soak.plan import HEAD, NODES, Fault, Step, as_words, faults, steps
from tests.soak.process import Process
from tests.soak.town import Town, built

T = TypeVar("T")
WHOLE_CLUSTER_SECONDS = 100.0  # in less than that a cluster that lost its head would be away for most of the run


class Log:
    def __init__(self, out: TextIO, seed: int) -> None:
        self._out, self._seed, self._started = out, seed, time.monotonic()
        self._lock = threading.Lock()

    def start(self) -> None:
        self._started = time.monotonic()

    def __call__(self, event: str, **more: Any) -> None:
        line = {"seed": self._seed, "t": round(time.monotonic() - self._started, 3), "event": event, **more}
        with self._lock:
            self._out.write(json.dumps(line, default=str) + "\n")
            self._out.flush()

    def timed(self, what: str, act: Callable[[], T]) -> T:
        began = time.monotonic()
        found = act()
        self("checked", what=what, seconds=round(time.monotonic() - began, 2))
        return found


@dataclass(frozen=True)
class Outcome:
    problems: list[str]
    rankings: int
    faults: int
    skipped: list[str]
    scores: int
    largest_difference: float
    seconds: float


def soak(
    folder: Path,
    zoo: TinyZoo,
    *,
    seed: int,
    rankings: int,
    seconds: float,
    mean_gap: float,
    log: Log,
    given: Sequence[Fault] | None = None,
) -> Outcome:
    """Once undisturbed, once with faults over `seconds`."""
    began = time.monotonic()
    names = [f"{model.name}.{crop}" for model in zoo.good for crop in range(4)]
    asked = steps(seed, rankings, names)
    log("plan", rankings=rankings, seconds=seconds, mean_gap=mean_gap, steps=sum(map(len, asked)), argv=sys.argv[1:])
    with ray_cluster(folder) as ray:  # it starts while the first of the two towns is at work
        undisturbed, problems = _undisturbed(folder, asked, zoo, log)
        with built(folder / "disturbed", log, skewed=True, ray=ray) as town:
            verdict.watch_ends(town)
            skipped: list[str] = []
            without: list[str] = []
            if not (town.store_is_small and town.database_is_small):
                without = ["disk full store", "disk full postgres"]
                skipped.append("disk full: this user may not mount a file system")
            if seconds < WHOLE_CLUSTER_SECONDS:
                without.append(f"kill {HEAD}")
            planned = faults(seed, seconds, mean_gap=mean_gap, without=without) if given is None else list(given)
            ledger = Ledger()
            happened = _ask(town, asked, ledger, log, seconds=seconds, zoo=zoo, planned=planned)
            log("calm", faults=happened, unanswered=ledger.unanswered)
            problems += ledger.findings + log.timed("settle", lambda: verdict.settle(town))
            found = log.timed("results", lambda: verdict.results(town, ledger))
            differing, worst = verdict.compare(found, undisturbed)
            problems += differing + verdict.rows(town, ledger) + verdict.over_ray(town, log)
            problems += log.timed("stop workers", lambda: verdict.stop(town)) + verdict.deaths(town)
            problems += log.timed("store", lambda: verdict.store(town))
            differing, _ = verdict.compare(
                log.timed("results again", lambda: verdict.results(town, ledger)), undisturbed
            )
            problems += [f"after the collection: {what}" for what in differing]
            problems += log.timed("orphans", lambda: verdict.orphans(town))
    for problem in problems:
        log("problem", what=problem)
    outcome = Outcome(
        problems,
        len(ledger.rankings),
        happened,
        skipped,
        sum(map(len, found.scores.values())),
        worst,
        round(time.monotonic() - began, 1),
    )
    log(
        "end",
        rankings=outcome.rankings,
        faults=happened,
        skipped=skipped,
        scores=outcome.scores,
        largest_difference=worst,
        problems=len(problems),
        seconds=outcome.seconds,
    )
    return outcome


def _undisturbed(
    folder: Path, asked: Sequence[Sequence[Step]], zoo: TinyZoo, log: Log
) -> tuple[verdict.Results, list[str]]:
    began = time.monotonic()
    with built(folder / "undisturbed", log, skewed=False) as town:
        ledger = Ledger()
        _ask(town, asked, ledger, log, seconds=0.0, zoo=zoo)
        problems = [f"undisturbed: {what}" for what in (*ledger.findings, *verdict.settle(town))]
        undisturbed = verdict.results(town, ledger)
        problems += [f"undisturbed: no score of {entry}: {why}" for entry, why in undisturbed.failures.items()]
    log("undisturbed", seconds=round(time.monotonic() - began, 1), scores=sum(map(len, undisturbed.scores.values())))
    return undisturbed, problems


def _ask(
    town: Town,
    asked: Sequence[Sequence[Step]],
    ledger: Ledger,
    log: Log,
    *,
    seconds: float,
    zoo: TinyZoo,
    planned: Sequence[Fault] = (),
) -> int:
    """All clients to their end, while what is planned goes wrong. Returns how many faults happened."""
    log.timed("models", lambda: add_models(town.url, zoo))
    archives = town.folder / "archives"
    archives.mkdir()
    callers = [Caller(town.url, mine, ledger, log, archives, seconds=seconds * 0.7) for mine in asked if mine]
    log.start()
    started = time.monotonic()
    for caller in callers:
        caller.start()
    running = []
    for fault in planned:
        time.sleep(max(0.0, started + fault.at - time.monotonic()))
        thread = threading.Thread(target=_happen, args=(town, fault, log), name=f"{fault.kind} {fault.target}")
        thread.start()
        running.append(thread)
    for thread in (*running, *callers):
        thread.join()
    for caller in callers:
        if caller.error is not None:
            raise caller.error
    return len(running)


def _happen(town: Town, fault: Fault, log: Log) -> None:
    with town.turns[fault.target]:
        _happen_alone(town, fault, log)


def _happen_alone(town: Town, fault: Fault, log: Log) -> None:
    log("fault", **as_words(fault))
    process = town.processes.get(fault.target)
    link = town.to_database.get(fault.target, town.to_api)
    match fault.kind, process:
        case "kill", Process() if fault.target == HEAD and town.ray is not None:
            with ExitStack() as turns:
                for name in NODES:
                    turns.enter_context(town.turns[name])
                town.ray.kill()
                time.sleep(fault.seconds)
                town.ray.start()
        case "kill", Process() if fault.target in NODES and town.ray is not None:
            process.kill(whole=True)
            time.sleep(fault.seconds)
            town.ray.start_one(fault.target)
        case "kill", Process():
            process.kill(whole=fault.then == "reset")
            time.sleep(fault.seconds)
            process.start()
        case "restart" | "end by signal", Process():
            process.end(signal.SIGINT if fault.target == "postgres" else signal.SIGTERM, 40.0)
            time.sleep(fault.seconds)
            process.start()
        case "pause", Process():
            process.send(signal.SIGSTOP, whole=True)
            time.sleep(fault.seconds)
            process.send(signal.SIGCONT, whole=True)
        case "kill a child" | "kill a backend", Process():
            below = process.children()
            if below:
                os.kill(below[len(below) // 2], signal.SIGKILL)
        case "cut off", _:
            link.cut()
            time.sleep(fault.seconds)
            if fault.then == "reset":
                link.reset()
            link.heal()
        case "reset", _:
            link.reset()
        case "disk full", _:
            disk = town.folder / ("store" if fault.target == "store" else "database")
            places.fill(disk)
            time.sleep(fault.seconds)
            places.empty(disk)
        case _:
            raise ValueError(f"no such fault: {fault}")
    log("over", kind=fault.kind, target=fault.target)


def replayed(path: Path) -> tuple[dict[str, Any], list[Fault]]:
    """A log's plan and its faults, at the times when they really began."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    plan = next(line for line in lines if line["event"] == "plan")
    fields = Fault.__dataclass_fields__
    found = [
        Fault(**{name: line[name] for name in fields} | {"at": line["t"]}) for line in lines if line["event"] == "fault"
    ]
    return plan, found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds",
        type=float,
        default=os.environ.get("SOAK_SECONDS"),
        help="bound the whole run to about this, with as many rankings as fit; SOAK_SECONDS",
    )
    parser.add_argument("--rankings", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--replay", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for the processes' logs and data")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # so that all processes are ended
    rankings, seconds, gap = sized(given.seconds)
    rankings = given.rankings or rankings
    planned = None
    if given.replay:
        plan, planned = replayed(given.replay)
        given.seed, rankings, seconds, gap = plan["seed"], plan["rankings"], plan["seconds"], plan["mean_gap"]
    with tempfile.TemporaryDirectory(prefix="zs-soak-", ignore_cleanup_errors=True) as name:
        folder = given.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        Path(name).chmod(0o755)
        zoo_folder = folder / "zoo"
        zoo_folder.mkdir()
        with (given.log or folder / "soak.log").open("w") as out:
            outcome = soak(
                folder,
                make_zoo(zoo_folder),
                seed=given.seed,
                rankings=rankings,
                seconds=seconds,
                mean_gap=gap,
                log=Log(out, given.seed),
                given=planned,
            )
    said = (
        f"{outcome.rankings} rankings, {outcome.faults} faults, {outcome.scores} scores within "
        f"{outcome.largest_difference:.1e} of an undisturbed run's, {outcome.seconds:.0f} s, seed {given.seed}"
    )
    sys.stdout.write("\n".join((said, *outcome.skipped, *outcome.problems)) + "\n")
    return 1 if outcome.problems else 0


def sized(whole_seconds: float | None) -> tuple[int, float, float]:
    """Rankings, seconds of faults and the mean time between two, for a run of about this length."""
    if whole_seconds is None:
        return 200, 480.0, 2.0
    return max(4, round(whole_seconds / 4)), whole_seconds / 3, 0.8


if __name__ == "__main__":
    sys.exit(main())
