"""What a task is, apart from how it is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any


class TaskKind(StrEnum):
    INGEST = "ingest"  # check and seal an uploaded dataset
    RESOLVE = "resolve"  # fetch a model's weights, pin their sha256, prove that they match
    IMPORT = "import"  # cards from an installed registry
    PLAN = "plan"  # what a ranking still has to embed
    EMBED = "embed"  # embed and score one group of models
    INSPECT = "inspect"  # what one model's embeddings say of a dataset
    SCORE = "score"  # score features that a user brought
    PRESCORE = "prescore"  # plan a prescore, or note what has ended of it
    FINETUNE = "finetune"  # train models on a dataset and record what they reach
    SIGN = "sign"  # which datasets one is like, by a small model
    COLLECT = "collect"  # remove files that no row needs


class TaskState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Counted(StrEnum):
    """What workers count for the metrics."""

    LEASE_LOSSES = "lease_losses"  # tasks that were taken over because their lease had run out
    EMBEDDINGS = "embeddings"  # wanted by tasks; label: where they came from, `store` or `computed`


class Priority(IntEnum):
    """Lower goes first: what someone waits for, then the rest."""

    CONTROL = 10
    INTERACTIVE = 50
    BATCH = 90


@dataclass(frozen=True, slots=True)
class Task:
    """A claimed task. `fence` proves, when a result is written, that the claim still holds."""

    id: str
    project_id: str
    kind: TaskKind
    subject_id: str
    payload: Mapping[str, Any]
    attempts: int
    fence: int
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, Any]:
        """What each line of the log about it says."""
        of_ranking = {"ranking": self.subject_id} if self.kind in {TaskKind.PLAN, TaskKind.EMBED} else {}
        request_id = {"request_id": self.origin["request_id"]} if "request_id" in self.origin else {}
        return {"task": self.id, "kind": self.kind, "subject": self.subject_id, **of_ranking, **request_id}


@dataclass(frozen=True, slots=True)
class Queue:
    """Of one project."""

    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that was seen lately."""

    id: str
    device: str
    started_at: datetime
