"""What must be true when the faults are over."""

import hashlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from service.client import Client
from service.datasets.manifest import read_manifest
from service.keys.tables import DEFAULT_PROJECT
from tests.soak.clients import PATIENCE_SECONDS, Ledger
from tests.soak.plan import LEASE_SECONDS, OF_RAY, RAY_WORKER
from tests.soak.town import Note, Town

RELATIVE = 1e-6
# Progress may be written once more; state and time of an end are for ever.
WATCH_ENDS = """
CREATE TABLE soak_ended_again (what text, id text, was text, became text);
CREATE FUNCTION soak_ended_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO soak_ended_again VALUES (TG_TABLE_NAME, OLD.id, OLD.state, NEW.state); RETURN NULL; END $$;
CREATE TRIGGER soak_tasks AFTER UPDATE ON tasks FOR EACH ROW WHEN (OLD.state IN ('done', 'failed', 'cancelled')
  AND (OLD.state, OLD.finished_at) IS DISTINCT FROM (NEW.state, NEW.finished_at)) EXECUTE FUNCTION soak_ended_again();
CREATE TRIGGER soak_rankings AFTER UPDATE ON rankings FOR EACH ROW WHEN (OLD.state IN ('done', 'failed', 'cancelled')
  AND (OLD.state, OLD.finished_at) IS DISTINCT FROM (NEW.state, NEW.finished_at)) EXECUTE FUNCTION soak_ended_again();
CREATE TRIGGER soak_datasets AFTER UPDATE ON datasets FOR EACH ROW WHEN (OLD.state IN ('sealed', 'refused')
  AND (OLD.state, OLD.fingerprint) IS DISTINCT FROM (NEW.state, NEW.fingerprint)) EXECUTE FUNCTION soak_ended_again();
"""
WATCH_NO_MORE = "DROP TABLE soak_ended_again; DROP FUNCTION soak_ended_again CASCADE"


@dataclass(frozen=True)
class Results:
    """What a run came to, by the name of the step that asked for it."""

    fingerprints: Mapping[str, str]
    scores: Mapping[str, Mapping[str, float | None]]  # of a ranking, by model and estimator
    states: Mapping[str, str]
    failures: Mapping[str, str]  # why an entry has no score, by step and model


def watch_ends(town: Town) -> None:
    with psycopg.connect(town.database_url, autocommit=True) as connection:
        connection.execute(WATCH_ENDS)


def ask(town: Town, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(town.database_url, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def settle(town: Town, *, seconds: float = PATIENCE_SECONDS) -> list[str]:
    """Waits until no task is open. A task that never ends is a finding."""
    deadline = time.monotonic() + seconds
    query = "SELECT kind, id, state, attempts, lease_owner, payload FROM tasks WHERE state IN ('queued', 'running')"
    while left := ask(town, query):
        if time.monotonic() > deadline:
            return [f"still open {seconds:g} s after the last fault: {row}" for row in left]
        time.sleep(0.2)
    return []


def results(town: Town, ledger: Ledger) -> Results:
    fingerprints: dict[str, str] = {}
    scores: dict[str, dict[str, float | None]] = {}
    states: dict[str, str] = {}
    failures: dict[str, str] = {}
    with Client(town.url) as client:
        for step, ident in ledger.datasets.items():
            view = client.dataset(ident)
            fingerprints[step] = f"{view.state} {view.fingerprint} {view.n_images}"
        for step, ident in ledger.rankings.items():
            ranking = client.ranking(ident)
            states[step] = ranking.state
            scores[step] = {
                f"{entry.model} {name}": score.value
                for entry in ranking.entries
                for name, score in entry.scores.items()
            }
            failures |= {f"{step} {e.model}": str(e.error) for e in ranking.entries if e.state != "done"}
    return Results(fingerprints, scores, states, failures)


def compare(found: Results, undisturbed: Results) -> tuple[list[str], float]:
    """What differs, and the largest relative difference of a score."""
    problems = [
        f"dataset {step} is {is_now}, was {undisturbed.fingerprints.get(step)}"
        for step, is_now in found.fingerprints.items()
        if is_now != undisturbed.fingerprints.get(step)
    ]
    problems += [f"no dataset for {step}" for step in undisturbed.fingerprints.keys() - found.fingerprints.keys()]
    problems += [f"no ranking for {step}" for step in undisturbed.scores.keys() - found.scores.keys()]
    problems += [f"ranking {step} is {state}" for step, state in found.states.items() if state != "done"]
    problems += [f"no score of {entry}: {why}" for entry, why in found.failures.items()]
    worst = 0.0
    for step, scores in found.scores.items():
        expected = undisturbed.scores.get(step, {})
        if scores.keys() != expected.keys():
            problems.append(f"ranking {step} has other scores: {sorted(scores.keys() ^ expected.keys())[:6]}")
        for name in scores.keys() & expected.keys():
            value, wanted = scores[name], expected[name]
            if value is None or wanted is None:
                if value is not wanted:
                    problems.append(f"{step} {name} is {value}, was {wanted}")
                continue
            difference = abs(value - wanted) / abs(wanted) if wanted else abs(value)
            worst = max(worst, difference)
            if difference > RELATIVE:
                problems.append(f"{step} {name} is {value}, was {wanted}")
    return problems, worst


def rows(town: Town, ledger: Ledger) -> list[str]:
    """What the database says of tasks and of what was asked for twice."""
    found = [
        f"{what} {ident} had ended {was} and became {became}"
        for what, ident, was, became in ask(town, "SELECT what, id, was, became FROM soak_ended_again")
    ]
    found += [
        f"task {ident} ({kind}) failed: {error}"
        for ident, kind, error in ask(town, "SELECT id, kind, error FROM tasks WHERE state = 'failed'")
    ]
    held = {row[0] for row in ask(town, "SELECT id FROM rankings")}
    lost = set(ledger.rankings.values()) - held
    more = held - set(ledger.rankings.values())
    if lost:
        found.append(f"rankings that were acknowledged are gone: {sorted(lost)}")
    if len(more) > ledger.unanswered:
        found.append(f"{len(more)} rankings nobody was told of, where {ledger.unanswered} answers were lost")
    back = set(ledger.removed.values()) & (held | {row[0] for row in ask(town, "SELECT id FROM datasets")})
    if back:
        found.append(f"removed and there again: {sorted(back)}")
    kept = sorted(ask(town, "SELECT recipe, accuracy FROM outcomes"))
    if kept != sorted(ledger.outcomes.items()):
        found.append(f"outcomes are {kept}, acknowledged were {sorted(ledger.outcomes.items())}")
    for step, ident in ledger.datasets.items():
        if not ask(town, f"SELECT 1 FROM datasets WHERE id = '{ident}'"):  # noqa: S608
            found.append(f"dataset {ident} of {step} was acknowledged and is gone")
    return found


def over_ray(town: Town, note: Note) -> list[str]:
    """Without tasks on the cluster nothing of it was tried."""
    query = "SELECT progress->>'node', count(*) FROM tasks WHERE state = 'done' AND progress->>'node' <> '' GROUP BY 1"
    by_node = dict(ask(town, query))
    note("over ray", tasks=sum(by_node.values()), nodes=len(by_node))
    return [] if by_node else ["no task was done on a node of Ray"]


def deaths(town: Town) -> list[str]:
    """Processes that were serving and ended although nothing was done to them.

    Not Ray's own, nor its worker: when the head is lost the cluster is, and they end with it.
    """
    excused = {*OF_RAY, RAY_WORKER}
    return [what for name, process in town.processes.items() if name not in excused for what in process.ended]


def stop(town: Town) -> list[str]:
    """Workers end in order when told to, and nothing of them goes on."""
    found = []
    for name, process in town.processes.items():
        if name.startswith("worker"):
            status = process.end(signal.SIGTERM, 30.0)
            if status not in {0, -signal.SIGTERM, 128 + signal.SIGTERM}:
                found.append(f"{name} ended with {status} when it was told to")
    return found


def store(town: Town) -> list[str]:
    """Segments, images and leftovers, once no worker runs."""
    found = _sound(town, "verify --no-repair")
    with psycopg.connect(town.database_url, autocommit=True) as connection:
        connection.execute(WATCH_NO_MORE)
    found += _sound(town, "check", group="db")
    time.sleep(LEASE_SECONDS)
    gone = town.cli("store", "gc", ZOOSCOUT_STORE__GRACE_SECONDS=str(LEASE_SECONDS))
    found += [f"store gc: {gone.stderr}"] * bool(gone.returncode)
    data = town.data_dir
    left = [
        p
        for p in data.rglob("*")
        if p.is_file()
        and (p.suffix in {".tmp", ".part"} or "_tmp" in p.parts or "uploads" in p.relative_to(data).parts)
    ]
    found += [f"left behind: {path.relative_to(data)}" for path in left]
    named = {row[0] for row in ask(town, "SELECT id FROM segments")}
    files = [p for p in (data / "segments").rglob("*") if p.is_file()]
    there = {p.name.partition(".")[0] for p in files}
    found += [f"the files of {ident} are gone" for ident in named - there]
    found += [f"no row names {p.name}" for p in files if p.name.partition(".")[0] not in named]
    needed: set[str] = set()
    for ident, _ in ask(town, "SELECT id, name FROM datasets WHERE state = 'sealed'"):
        manifest = read_manifest(data / "manifests" / DEFAULT_PROJECT / f"{ident}.parquet")
        needed |= {row.tobytes().hex() for row in manifest.content_hashes}
    blobs = {p.name: p for p in (data / "blobs").rglob("*") if p.is_file()}
    found += [f"image {name} is gone" for name in needed - blobs.keys()]
    found += [f"image {name} is of no dataset" for name in blobs.keys() - needed]
    found += [
        f"image {name} is not what was uploaded"
        for name, path in blobs.items()
        if hashlib.sha256(path.read_bytes()).hexdigest() != name
    ]
    return found


def orphans(town: Town) -> list[str]:
    """Once everything but the database is stopped."""
    town.processes["api"].end(signal.SIGTERM, 30.0)
    deadline = time.monotonic() + 30.0
    while (alive := town.alive()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [f"goes on by itself: {words}" for words in alive]


def _sound(town: Town, words: str, group: str = "store") -> list[str]:
    said = town.cli(group, *words.split())
    return [f"zooscout {group} {words}: {said.stdout}{said.stderr}"] * bool(said.returncode)
