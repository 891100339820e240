"""`zooscout doctor` names each of ten faults, each of them injected for real."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text
from typer.testing import CliRunner

from service.cli.main import command_line
from service.core.db import Database
from service.core.migrate import alembic_config
from service.core.settings import Settings
from tests.helpers.databases import PostgresServer, opened
from tests.helpers.service import ROOT, environment, process, running, settings_for, wait_until
from tests.helpers.zoo import TinyZoo
from tests.soak.places import fill, small_disk

Doctor = Callable[..., dict[str, dict[str, str]]]
PORT_OF_NOBODY = 1


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo) -> Path:
    """A data directory in which a ranking has ended."""
    folder = tmp_path_factory.mktemp("ranked")
    weights = folder / tiny_zoo.good[0].path.name
    shutil.copy(tiny_zoo.good[0].path, weights)
    with running(settings_for(folder / "data", None)) as service:
        made = service.call("POST", "/v1/models", 201, json=tiny_zoo.good[0].request(weights=f"file:{weights}"))
        service.work(subjects=[made["id"]])
        service.ranked(service.sealed()["id"], [made["name"]], estimators=["logme"])
    return folder


@pytest.fixture
def settings(ranked: Path, tmp_path: Path) -> Settings:
    shutil.copytree(ranked / "data", tmp_path / "data")
    return settings_for(tmp_path / "data", None)


@pytest.fixture
def doctor(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Doctor:
    """What it says in this process, by name."""

    def ask(*, status: int, **changes: str) -> dict[str, dict[str, str]]:
        for name, value in (environment(settings, HF_HUB_OFFLINE="1") | changes).items():
            if name.startswith(("ZOOSCOUT_", "HF_")):
                monkeypatch.setenv(name, value)
        done = CliRunner().invoke(command_line(["doctor"]), ["doctor", "--json"])
        assert done.exit_code == status, (done.output, done.exception)
        said = json.loads(done.stdout)
        assert said["ok"] is (status == 0)
        return {check["name"]: check for check in said["checks"]}

    return ask


def assert_named(checks: dict[str, dict[str, str]], name: str, *words: str) -> None:
    """This alone is the problem, is named by these words, and comes with what to do."""
    assert [check["name"] for check in checks.values() if check["state"] == "problem"] == [name]
    assert checks[name]["do"]
    for word in words:
        assert word in checks[name]["found"]


def database_of(settings: Settings) -> Any:
    return opened(settings.database_url)


def test_where_all_is_well_it_says_so_and_changes_nothing(doctor: Doctor, settings: Settings) -> None:
    before = {path: path.stat().st_size for path in settings.segment_root.rglob("*")}
    checks = doctor(status=0)
    assert [name for name, check in checks.items() if check["state"] != "ok"] == ["workers"]
    assert checks["segments"]["found"] == "2 have their size; 2 of them were read to their end"
    assert {path: path.stat().st_size for path in settings.segment_root.rglob("*")} == before


def test_before_the_first_command_nothing_is_wrong(doctor: Doctor, tmp_path: Path) -> None:
    checks = doctor(status=0, ZOOSCOUT_DATA_DIR=str(tmp_path / "none"))
    assert checks["store"]["state"] == "warning"
    assert not (tmp_path / "none").exists()


def test_a_hub_that_does_not_answer_is_no_problem_yet(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = doctor(status=0, HF_HUB_OFFLINE="", HF_ENDPOINT=f"http://127.0.0.1:{PORT_OF_NOBODY}")
    assert checks["hub"]["state"] == "warning"
    assert "HF_HUB_OFFLINE" in checks["hub"]["do"]


def test_no_disk(doctor: Doctor, settings: Settings, tmp_path: Path) -> None:
    assert_named(doctor(status=1, ZOOSCOUT_HEALTH__MIN_FREE_BYTES=str(2**60)), "disk", "free of")
    with small_disk(tmp_path / "small", mib=8) as small:
        if not small:
            pytest.skip("this user may not mount a file system")
        shutil.copytree(settings.data_dir, tmp_path / "small" / "data")
        fill(tmp_path / "small")
        checks = doctor(status=1, ZOOSCOUT_DATA_DIR=str(tmp_path / "small" / "data"))
        assert checks["disk"]["state"] == checks["store"]["state"] == "problem"
        assert "store gc" in checks["store"]["do"]


def test_a_wrong_migration_head(doctor: Doctor, settings: Settings) -> None:
    with database_of(settings) as database:
        command.downgrade(alembic_config(database), "0014")
    checks = doctor(status=1)
    assert_named(checks, "migration", "at 0014")
    assert checks["migration"]["do"] == "zooscout db upgrade"
    assert checks["queue"]["state"] == "skipped"
    with database_of(settings) as database, database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "Install the version" in doctor(status=1)["migration"]["do"]


def test_an_unreachable_database(doctor: Doctor) -> None:
    address = f"postgresql://me:secret@127.0.0.1:{PORT_OF_NOBODY}/zooscout"
    checks = doctor(status=1, ZOOSCOUT_DATABASE__URL=address)
    assert_named(checks, "database", "does not answer", "127.0.0.1")
    assert "secret" not in json.dumps(checks)


def test_a_dead_worker(doctor: Doctor, settings: Settings, tmp_path: Path) -> None:
    def seen(database: Database) -> int:
        with database.read() as session:
            return int(session.execute(text("SELECT count(*) FROM workers")).scalar_one())

    with database_of(settings) as database:
        assert seen(database) == 0  # the one that made the ranking has said goodbye
        with process(settings, tmp_path / "log", "service.worker") as worker:
            wait_until(lambda: seen(database), why="the worker reports")
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        with database.write() as session:
            session.execute(text("UPDATE workers SET seen_at = seen_at - 60"))
    assert_named(doctor(status=1), "workers", "none is alive", "without saying that it would go")


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_corrupt_segment(doctor: Doctor, settings: Settings, damage: str) -> None:
    path = next(settings.segment_root.rglob("*.faiss"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data if damage == "flipped" else data[:-5])
    if damage == "gone":
        path.unlink()
    checks = doctor(status=1)
    assert_named(checks, "segments", path.name.partition(".")[0])
    assert "zooscout store verify" in checks["segments"]["do"]


def test_a_torch_that_cannot_use_the_device_asked_for(doctor: Doctor) -> None:
    assert_named(doctor(status=1, ZOOSCOUT_WORKER__DEVICE="cuda:99"), "torch", "ZOOSCOUT_WORKER__DEVICE is cuda:99")


def test_a_torch_built_for_libraries_that_are_not_there(settings: Settings, tmp_path: Path) -> None:
    broken = tmp_path / "path" / "torch"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("import ctypes\nctypes.CDLL('libcudart.so.999')\n")
    said = subprocess.run(
        [sys.executable, "-m", "service.cli", "doctor"],
        env=environment(settings, HF_HUB_OFFLINE="1", PYTHONPATH=f"{tmp_path / 'path'}{os.pathsep}{ROOT}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1, said.stderr
    problem, remedy = (line for line in said.stdout.splitlines() if "problem" in line or "Install it again" in line)
    assert problem.split()[:2] == ["problem", "torch"]
    assert "libcudart.so.999" in problem
    assert "zooscout[worker]" in remedy


def test_missing_weights(doctor: Doctor, settings: Settings, ranked: Path) -> None:
    path = next(ranked.glob("*.safetensors"), None) or next(p for p in ranked.iterdir() if p.is_file())
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        assert_named(doctor(status=1), "weights", str(path))
    finally:
        hidden.rename(path)


def test_clocks_that_disagree(doctor: Doctor, postgres: PostgresServer) -> None:
    url = postgres.migrated()
    with opened(url) as database, database.engine.connect() as connection:
        name = database.engine.url.database
        for statement in (
            (
                "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS "
                "$$ SELECT pg_catalog.clock_timestamp() + interval '5 minutes' $$"
            ),
            f"ALTER DATABASE {name} SET search_path = public, pg_catalog",
        ):
            connection.execute(text(statement))
        connection.commit()
    assert_named(doctor(status=1, ZOOSCOUT_DATABASE__URL=url), "clock", "s behind the database")


def test_a_full_queue(doctor: Doctor, settings: Settings) -> None:
    with running(settings) as service:
        for _ in range(4):
            service.call("POST", "/v1/models/import", 202, json={"source": "timm", "filter": "resnet18*"})
    with database_of(settings) as database, database.write() as session:
        session.execute(text("INSERT INTO workers VALUES ('w', 'cpu', CURRENT_TIMESTAMP, 9e9)"))
    assert doctor(status=0)["queue"]["found"].startswith("4 tasks are due")
    assert_named(doctor(status=1, ZOOSCOUT_QUOTAS__QUEUED_TASKS="4"), "queue", "full for default")
    assert_named(doctor(status=1, ZOOSCOUT_QUOTAS__QUEUED_TASKS="9", ZOOSCOUT_HEALTH__MAX_WAITING_TASKS="3"), "queue")


@pytest.fixture
def read_only(settings: Settings) -> Iterator[None]:
    """The folder of segments is there, and nothing can be written to it, not even by root."""
    folder = str(settings.segment_root)
    bound = os.geteuid() == 0 and all(
        subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0
        for words in (["--bind", folder, folder], ["-o", "remount,ro,bind", folder])
    )
    if not bound:
        settings.segment_root.chmod(0o500)
    try:
        yield
    finally:
        settings.segment_root.chmod(0o700) if not bound else subprocess.run(["umount", folder], check=False)


@pytest.mark.usefixtures("read_only")
def test_a_read_only_store(doctor: Doctor, settings: Settings) -> None:
    if os.geteuid() == 0 and os.access(settings.segment_root, os.W_OK):
        pytest.skip("root writes here whatever the permissions say, and may not mount")
    assert_named(doctor(status=1), "store", str(settings.segment_root), "ead-only" if os.geteuid() == 0 else "denied")
