"""The service in one process: its API, and a worker that runs when told to."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from starlette.testclient import TestClient

from service.api.app import create_app
from service.core.db import Database
from service.core.settings import DatabaseSettings, Settings, StoreSettings, UploadSettings, WorkerSettings
from service.jobs.tables import TaskRow
from service.worker.context import WorkerContext
from service.worker.loop import run
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.zoo import TinyModel

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Service:
    settings: Settings
    client: TestClient
    worker: WorkerContext

    @property
    def database(self) -> Database:
        return self.worker.database

    @property
    def data_dir(self) -> Path:
        return self.settings.data_dir

    def work(self, *, seconds: float = 120.0, subjects: Sequence[str] | None = None) -> None:
        """Works until nothing is queued or running."""
        deadline = time.monotonic() + seconds

        def idle() -> bool:
            assert time.monotonic() < deadline, f"still at work after {seconds} s: {self.tasks()}"
            with self.database.read() as session:
                query = select(func.count()).where(TaskRow.state.in_(("queued", "running")))
                if subjects is not None:
                    query = query.where(TaskRow.subject_id.in_(subjects))
                return session.execute(query).scalar_one() == 0

        run(self.worker, threading.Event(), subjects=subjects, finished=idle)

    def tasks(self, **wanted: Any) -> list[tuple[str, str, str]]:
        with self.database.read() as session:
            query = select(TaskRow.kind, TaskRow.state, TaskRow.subject_id).filter_by(**wanted)
            return [tuple(row) for row in session.execute(query.order_by(TaskRow.created_at))]

    def call(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        answer = self.client.request(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def upload(self, archive: bytes, *, name: str = "trees", status: int = 202) -> dict[str, Any]:
        return self.call("POST", "/v1/datasets", status, params={"name": name}, content=archive)

    def sealed(self, archive: bytes | None = None, *, name: str = "trees") -> dict[str, Any]:
        """Uploads a dataset and has it checked."""
        made = self.upload(zipped(class_folders()) if archive is None else archive, name=name)
        self.work(subjects=[made["id"]])
        view = self.call("GET", f"/v1/datasets/{made['id']}")
        assert view["state"] == "sealed", view
        return view

    def add_models(self, models: Sequence[TinyModel]) -> list[dict[str, Any]]:
        """Registers models and has their weights proved."""
        made = [self.call("POST", "/v1/models", 201, json=model.request()) for model in models]
        self.work(subjects=[model["id"] for model in made])
        return [self.call("GET", f"/v1/models/{model['id']}") for model in made]

    def ranked(self, dataset: str, models: object, **request: Any) -> dict[str, Any]:
        made = self.call("POST", "/v1/rankings", 202, json={"dataset": dataset, "models": models, **request})
        self.work()
        return self.call("GET", f"/v1/rankings/{made['id']}")

    def files(self, *folders: str) -> list[Path]:
        """Every file under these folders of the data directory."""
        return sorted(path for name in folders for path in (self.data_dir / name).rglob("*") if path.is_file())


def settings_for(data_dir: Path, url: str | None, /, **groups: Any) -> Settings:
    usual: dict[str, Any] = {
        "lease_seconds": 20.0,
        "poll_seconds": 0.02,
        "device": "cpu",
        "decode_threads": 1,
        "batch_size": 16,
    }
    usual["precision"] = "float32"  # `auto` is decided by timing, and scores of two services are held together
    worker = WorkerSettings(**usual | groups.get("worker", {}))
    return Settings(
        data_dir=data_dir,
        log_level="error",
        database=DatabaseSettings(url=url, pool_size=10),
        worker=worker,
        uploads=UploadSettings(**groups.get("uploads", {})),
        store=StoreSettings(**groups.get("store", {})),
    )


@contextmanager
def running(settings: Settings, /, *, raise_bugs: bool = True) -> Iterator[Service]:
    with TestClient(create_app(settings), base_url="http://127.0.0.1", raise_server_exceptions=raise_bugs) as client:
        database = Database.from_settings(settings)
        try:
            yield Service(settings, client, WorkerContext.from_settings(settings, database))
        finally:
            database.dispose()


def environment(settings: Settings, /, **more: str) -> dict[str, str]:
    """The same settings for another process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOSCOUT_")}
    url = {"ZOOSCOUT_DATABASE__URL": settings.database.url} if settings.database.url is not None else {}
    groups = {
        f"ZOOSCOUT_{group.upper()}__{name.upper()}": str(value)
        for group in ("worker", "executor", "store", "uploads", "webhooks", "tracing", "retention")
        for name, value in getattr(settings, group).model_dump().items()
        if value is not None
    }
    return (
        kept
        | groups
        | url
        | {"ZOOSCOUT_DATA_DIR": str(settings.data_dir), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        | more
    )


def cli(settings: Settings, /, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs the `zooscout` command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *words],
        env=environment(settings, **more),
        cwd=settings.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@contextmanager
def process(settings: Settings, log: Path, /, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command that runs until the block ends; what it says goes to `log`."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", *words],
            env=environment(settings),
            cwd=settings.data_dir.parent,
            stdout=out,
            stderr=out,
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()


def wait_until(true: Callable[[], object], /, *, seconds: float = 60.0, why: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so after {seconds} s: {why}"
        time.sleep(0.05)


def without(view: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in view.items() if key not in keys}
