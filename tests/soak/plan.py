"""What is asked for and what goes wrong, and when: pure functions of a seed."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

WORKERS = 2
RAY_WORKER = "worker-ray"  # has its tasks run on a Ray cluster
HEAD, NODES = "ray-head", ("ray-node-0", "ray-node-1")
OF_RAY = (HEAD, *NODES)
CLIENTS = 4
LEASE_SECONDS = 3.0
STARTS_SECONDS = 8.0  # of Ray's nodes, so that each is there for a while before it is killed again
IMAGES_EACH = 16  # of a class
CROPS = 4  # of each model: as many models of one architecture
PANELS: tuple[list[str] | None, ...] = (
    None,
    ["logme", "knn"],
    ["h_score", "lda", "gbc"],
    ["linear_probe", "transrate"],
)

StepKind = Literal["upload", "version", "rank", "cancel", "discard"]
FaultKind = Literal[
    "kill", "pause", "cut off", "reset", "kill a child", "kill a backend", "restart", "disk full", "end by signal"
]


@dataclass(frozen=True)
class Step:
    """One thing that a client asks for. `dataset` counts the client's own datasets from 0."""

    client: int
    number: int
    kind: StepKind
    dataset: int
    pause: float  # before it, in seconds
    seed: int = 0  # of an upload's pictures; of what a version removes
    shared: bool = False  # an upload whose pictures another client uploads as well
    models: tuple[str, ...] = ()
    panel: int = 0
    own_key: bool = False  # sent with an Idempotency-Key of its own until it is answered, else by the client's retries
    after: float = 0.0  # of a cancellation: seconds from the answer to the removal

    @property
    def name(self) -> str:
        return f"{self.client}-{self.number}"


@dataclass(frozen=True)
class Fault:
    at: float  # seconds from the start
    kind: FaultKind
    target: str  # worker-0 · worker-ray · ray-node-0 · ray-head · api · postgres · store · clients
    seconds: float  # until it is over: restarted, continued, connected, emptied
    then: Literal["heal", "reset"] = "heal"


def steps(seed: int, rankings: int, names: Sequence[str]) -> list[list[Step]]:
    """What each client does, in order: `rankings` in all of those that are to end, and what comes with them."""
    rng = random.Random(f"steps {seed}")
    asked = [rankings // CLIENTS + (number < rankings % CLIENTS) for number in range(CLIENTS)]
    return [_of_client(rng, client, wanted, names) for client, wanted in enumerate(asked)]


def _of_client(rng: random.Random, client: int, rankings: int, names: Sequence[str]) -> list[Step]:
    found: list[Step] = []
    kept: list[int] = []
    whole: list[int] = []  # of them, those that are no versions
    made = 0

    def add(kind: StepKind, dataset: int, **more: Any) -> None:
        found.append(Step(client, len(found), kind, dataset, round(rng.uniform(0, 1.5), 3), **more))

    def upload() -> int:
        nonlocal made
        shared = rng.random() < 0.3
        add("upload", made, seed=rng.randrange(3) if shared else 100 + client * 1000 + made, shared=shared)
        made += 1
        return made - 1

    def ranking(kind: StepKind, dataset: int) -> None:
        add(
            kind,
            dataset,
            models=tuple(sorted(rng.sample(list(names), rng.randint(1, len(names) // 2)))),
            panel=rng.randrange(len(PANELS)),
            own_key=rng.random() < 0.5,
            after=round(rng.uniform(0, 2), 3),
        )

    while rankings:
        if not kept or rng.random() < 0.25:
            kept.append(upload())
            whole.append(kept[-1])
        if rng.random() < 0.1:
            add("version", rng.choice(whole), seed=rng.randrange(1, IMAGES_EACH // 2))
            kept.append(made)
            made += 1
        if rng.random() < 0.12:
            gone = upload()
            ranking("cancel", gone)
            add("discard", gone)
        if rng.random() < 0.12:
            ranking("cancel", rng.choice(kept))
        ranking("rank", rng.choice(kept))
        rankings -= 1
    return found


def faults(
    seed: int, seconds: float, *, mean_gap: float, workers: int = WORKERS, without: Sequence[str] = ()
) -> list[Fault]:
    """None overlaps another of the same target; all are over by the end."""
    rng = random.Random(f"faults {seed}")
    over: dict[str, float] = {}
    found: list[Fault] = []
    at = rng.uniform(0.5, 2.0)
    while at < seconds:
        kind, target, least, most = _drawn(rng, workers)
        lasts = round(rng.uniform(least, most), 3)
        then: Literal["heal", "reset"] = "reset" if rng.random() < 0.5 else "heal"
        if f"{kind} {target}" not in without and over.get(target, 0.0) <= at and at + lasts < seconds:
            found.append(Fault(round(at, 3), kind, target, lasts, then))
            over[target] = at + lasts + (STARTS_SECONDS if target in OF_RAY else 1.0)
        at += rng.expovariate(1 / mean_gap)
    return found


def _drawn(rng: random.Random, workers: int) -> tuple[FaultKind, str, float, float]:
    """A kind, its target, and how long it lasts at least and at most."""
    own = f"worker-{rng.randrange(workers)}"
    worker = rng.choice([own, own, RAY_WORKER])
    node = rng.choice(NODES)
    table: list[tuple[int, FaultKind, str, float, float]] = [
        (6, "kill", worker, 0.0, 2.0),
        (3, "kill a child", own, 0.0, 0.0),
        (4, "pause", worker, LEASE_SECONDS * 0.5, LEASE_SECONDS * 2.5),
        (3, "cut off", worker, LEASE_SECONDS * 0.5, LEASE_SECONDS * 2.5),
        (3, "reset", worker, 0.0, 0.0),
        (1, "end by signal", worker, 0.0, 1.0),
        (4, "kill", node, 0.0, 3.0),
        (2, "kill a child", node, 0.0, 0.0),
        (2, "pause", node, LEASE_SECONDS * 0.5, LEASE_SECONDS * 2.5),
        (1, "kill", HEAD, 0.0, 2.0),
        (3, "kill", "api", 0.0, 2.0),
        (1, "pause", "api", 0.5, 4.0),
        (2, "cut off", "api", 0.5, 4.0),
        (2, "reset", "api", 0.0, 0.0),
        (3, "reset", "clients", 0.0, 0.0),
        (2, "kill", "postgres", 0.0, 3.0),
        (1, "kill a backend", "postgres", 0.0, 0.0),
        (1, "restart", "postgres", 0.0, 1.0),
        (1, "pause", "postgres", 0.5, LEASE_SECONDS * 1.5),
        (1, "disk full", "postgres", 1.0, 4.0),
        (4, "disk full", "store", 1.0, 6.0),
    ]
    _, kind, target, least, most = rng.choices(table, [row[0] for row in table])[0]
    return kind, target, least, most


def as_words(fault: Fault) -> dict[str, Any]:
    return asdict(fault)
