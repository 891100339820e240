"""Embedding runs that are killed at random points, and what must be true of the store and of the scores afterwards."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import func, select

from service.core.db import Database
from service.core.settings import Settings
from service.embeddings import repository, upkeep
from service.embeddings.files import LocalFiles, digest_of
from service.embeddings.model import Kind, SegmentInfo, SegmentNames
from service.embeddings.store import SegmentStore
from service.embeddings.tables import SegmentRow
from service.jobs.tables import TaskRow
from service.keys.tables import DEFAULT_PROJECT
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import environment, running, settings_for
from tests.helpers.zoo import TinyZoo

SEGMENT_ROWS = 16
SECONDS = 180.0
RELATIVE = 1e-6
From = Literal["the first task", "the first segment"]


@dataclass(frozen=True)
class Ground:
    """A data directory in which models are registered and a dataset is sealed, and how an undisturbed run ends."""

    data_dir: Path
    command: Sequence[str]
    pairs: int  # of a model and an image
    scores: Mapping[str, float]
    seconds: Mapping[From, float]  # from there to the end, undisturbed


@dataclass(frozen=True)
class Killed:
    moment: From
    after_seconds: float
    segments: int
    rows: int  # complete when the process died
    temporary: int  # files that were being written
    largest_difference: float  # relative, of any score


def prepare(folder: Path, zoo: TinyZoo, *, each: int) -> Ground:
    """Runs once undisturbed, in a copy."""
    settings = _settings(folder / "ground")
    with running(settings) as service:
        service.add_models(zoo.good)
        dataset = service.sealed(zipped(class_folders(each=each)))
    command = [sys.executable, "-m", "service.cli", "rank", dataset["id"], "--models", "tiny_*", "--json"]
    copy = _settings(shutil.copytree(folder / "ground", folder / "undisturbed"))
    child = _started(copy, command)
    begun: dict[From, float] = {}
    for moment in ("the first task", "the first segment"):
        _wait_for(moment, copy, child)
        begun[moment] = time.monotonic()
    view = _ended(child)
    ended = time.monotonic()
    pairs = dataset["n_images"] * len(zoo.good)
    assert view["progress"]["images_embedded"] == pairs
    return Ground(
        folder / "ground", command, pairs, _scores(view), {moment: ended - start for moment, start in begun.items()}
    )


def kill_once(ground: Ground, folder: Path, rng: random.Random) -> Killed | None:
    """One run that is killed, looked at, and ended by a second; None where it had ended before its time."""
    settings = _settings(shutil.copytree(ground.data_dir, folder))
    child = _started(settings, ground.command)
    moment: From = rng.choice(("the first task", "the first segment"))  # where most of what can be lost is
    _wait_for(moment, settings, child)
    after = rng.uniform(0, ground.seconds[moment])
    time.sleep(after)
    if child.poll() is not None:
        child.communicate()
        return None
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    root = settings.segment_root
    database = Database.from_settings(settings)
    try:
        held = _verified(root, database)
        bits = {name: digest_of(root / name).sha256 for info in held for name in _names(info)}
        temporary = len(list(root.rglob("*.tmp")))
        view = _ended(_started(settings, ground.command))
        after_all = {info.id: info for info in _verified(root, database)}
    finally:
        database.dispose()
    assert {name: digest_of(root / name).sha256 for name in bits} == bits, "a segment has changed"
    assert all(after_all.get(info.id) == info for info in held), "a segment that was complete is gone"
    rows = sum(info.n_rows for info in held if info.key.kind == Kind.FEATURES)
    assert view["progress"]["images_embedded"] == ground.pairs - rows, "what was complete was embedded again"
    scores = _scores(view)
    assert scores.keys() == ground.scores.keys()
    worst = max(abs(value - ground.scores[name]) / abs(ground.scores[name]) for name, value in scores.items())
    shutil.rmtree(folder)
    return Killed(moment, after, len(held), rows, temporary, worst)


def _settings(data_dir: Path) -> Settings:
    return settings_for(data_dir, None, store={"segment_rows": SEGMENT_ROWS})


def _started(settings: Settings, command: Sequence[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        list(command),
        env=environment(settings),
        cwd=settings.data_dir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own: its children die with it
    )


def _ended(child: "subprocess.Popen[str]") -> dict[str, Any]:
    said, wrong = child.communicate(timeout=SECONDS)
    assert child.returncode == 0, wrong
    view: dict[str, Any] = json.loads(said)
    return view


def _wait_for(moment: From, settings: Settings, child: "subprocess.Popen[str]") -> None:
    database = Database.from_settings(settings)
    query = (
        select(func.count()).where(TaskRow.kind == "embed", TaskRow.state != "queued")
        if moment == "the first task"
        else select(func.count()).select_from(SegmentRow)
    )
    deadline = time.monotonic() + SECONDS
    try:
        while child.poll() is None:
            with database.read() as session:
                if session.execute(query).scalar_one():
                    return
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        database.dispose()


def _verified(root: Path, database: Database) -> list[SegmentInfo]:
    """Every segment, once each of its bytes is found to be what was registered."""
    store = SegmentStore(LocalFiles(root), database)
    assert upkeep.find_damage(store, database, DEFAULT_PROJECT, lambda done, total: None) == []
    with database.read() as session:
        return repository.all_segments(session, DEFAULT_PROJECT)


def _names(info: SegmentInfo) -> tuple[str, str]:
    names = SegmentNames.of(info.key, info.id)
    return names.vectors, names.hashes


def _scores(view: Mapping[str, Any]) -> dict[str, float]:
    assert view["state"] == "done"
    return {
        f"{entry['model']} {name}": score["value"]
        for entry in view["entries"]
        for name, score in entry["scores"].items()
        if score["value"] is not None
    }
