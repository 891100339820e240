"""Hostile uploads against `zooscout serve` and its worker, watched from outside: what is kept, and what it weighs."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from service.core.settings import Settings
from tests.data.hostile import hostile
from tests.helpers.service import environment, wait_until

KEPT = ("uploads", "blobs", "manifests", "segments")
EACH_SECONDS = 60.0
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Siege:
    inputs: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    weights: dict[int, dict[str, int]] = field(default_factory=dict)  # after so many inputs: bytes of each process
    wrong: list[str] = field(default_factory=list)

    def weight(self, inputs: int, /) -> int:
        """Resident bytes of all processes of the service after so many inputs."""
        return sum(self.weights[inputs].values())


def family(root: int, /) -> dict[str, int]:
    """Resident bytes of a process and of all below it, by what they run and their numbers."""
    parents, resident = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                resident[int(entry.name)] = int((entry / "statm").read_text().split()[1]) * PAGE
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(stat[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return {f"{_runs(pid)} {pid}": resident[pid] for pid in sorted(found) if pid in resident}


def _runs(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return "gone"
    return words[words.index("-m") + 1] if "-m" in words else " ".join(words[:3])[:60]


def besiege(settings: Settings, folder: Path, inputs: int, /, *, seed: int, weigh_at: set[int]) -> Siege:
    """Sends the inputs one after the other, each to its end; what was sealed is purged every twenty-five."""
    siege = Siege()
    log, temporary = folder / "log", folder / "tmp"
    temporary.mkdir()
    with served(settings, log, TMPDIR=str(temporary)) as process:
        wait_until(lambda: re.search(r"zooscout is at (http://\S+)", log.read_text()), why="serve starts")
        address = re.search(r"zooscout is at (http://\S+)", log.read_text())
        assert address is not None
        with httpx.Client(base_url=address[1], timeout=EACH_SECONDS) as client:
            wait_until(lambda: _is_up(client), why="the API answers and a worker is there")
            sealed: list[str] = []
            for number in range(inputs):
                kind, data = hostile(number, seed=seed)
                _send(client, siege, number, kind, data, sealed)
                siege.inputs += 1
                if siege.inputs % 25 == 0 or siege.inputs == inputs:
                    _purge(client, siege, settings, sealed)
                if siege.inputs in weigh_at:
                    siege.weights[siege.inputs] = family(process.pid)
                if process.poll() is not None:
                    siege.wrong.append(f"after {kind} ({number}) the service was gone")
                    break
    said = log.read_text()
    siege.wrong += [line for line in said.splitlines() if re.search(r"request\.failed|worker ended|Traceback", line)]
    siege.wrong += [f"left in the temporary folder: {path}" for path in temporary.rglob("*") if path.is_file()]
    return siege


@contextmanager
def served(settings: Settings, log: Path, /, *words: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--port", "0", *words],
            env=environment(settings, **more),
            cwd=log.parent,
            stdout=out,
            stderr=out,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def _is_up(client: httpx.Client) -> bool:
    try:
        return int(client.get("/readyz").json()["workers"]) > 0
    except httpx.TransportError:
        return False


def _send(client: httpx.Client, siege: Siege, number: int, kind: str, data: bytes, sealed: list[str]) -> None:
    answer = client.post("/v1/datasets", params={"name": f"{number} {kind}"}, content=data)
    if answer.status_code in (200, 202):
        ident = answer.json()["id"]
        deadline = time.monotonic() + EACH_SECONDS
        while (view := client.get(f"/v1/datasets/{ident}").json())["state"] == "checking":
            if time.monotonic() > deadline:
                siege.wrong.append(f"{kind} ({number}) was not done with in {EACH_SECONDS:.0f} s")
                return
            time.sleep(0.02)
        siege.answers[view["state"]] += 1
        if view["state"] == "sealed":
            sealed.append(ident)
        elif not view["problem"] or view["problem"]["status"] not in (413, 415, 422):
            siege.wrong.append(f"{kind} ({number}) was refused without its problem: {view['problem']}")
        return
    siege.answers[str(answer.status_code)] += 1
    named = answer.headers["content-type"] == "application/problem+json"
    if answer.status_code not in (413, 415, 422) or not named or "Traceback" in answer.text:
        siege.wrong.append(f"{kind} ({number}): {answer.status_code} {answer.text[:200]}")


def _purge(client: httpx.Client, siege: Siege, settings: Settings, sealed: list[str]) -> None:
    """With what was sealed removed, nothing may be left: so nothing of what was refused was stored."""
    for ident in dict.fromkeys(sealed):
        client.delete(f"/v1/datasets/{ident}", params={"purge": True}).raise_for_status()
    sealed.clear()

    def left() -> list[Path]:
        return [path for name in KEPT for path in (settings.data_dir / name).rglob("*") if path.is_file()]

    deadline = time.monotonic() + EACH_SECONDS
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    siege.wrong += [f"after {siege.inputs} inputs there is {path}" for path in left()[:5]]
    states = {view["state"] for view in client.get("/v1/datasets", params={"limit": 1000}).json()["items"]}
    if not states <= {"refused"}:
        siege.wrong.append(f"after {siege.inputs} inputs there are datasets that are {states}")
