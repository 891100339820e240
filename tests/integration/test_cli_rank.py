"""The command line without a server: what it prints, how it fails, how it is interrupted and goes on."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cli.main import run
from service.core.settings import Settings
from tests.helpers.pictures import CLASSES, class_folders, zipped
from tests.helpers.service import Service, cli, environment, running, settings_for
from tests.helpers.zoo import INPUT_SIZE, TinyModel, TinyZoo

Finished = subprocess.CompletedProcess[str]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "data", None)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "trees.zip"
    path.write_bytes(zipped(class_folders()))
    return path


def adding(model: TinyModel) -> list[str]:
    return [
        "models", "add", model.name, "--arch", model.architecture, "--weights", f"file:{model.path}",
        "--input-size", str(INPUT_SIZE), "--crop-pct", "1.0",
    ]  # fmt: skip


def add(settings: Settings, model: TinyModel, *more: str) -> Finished:
    return cli(settings, *adding(model), *more)


def refused(said: Finished, *words: str, status: int) -> None:
    """One line on standard error that says what is wrong; nothing on standard output, no traceback."""
    assert said.returncode == status, said.stderr
    assert said.stdout == ""
    lines = said.stderr.strip().splitlines()
    assert len(lines) == 1, said.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], lines[0]


def test_rank_prints_the_shape_of_the_api_and_a_second_run_loads_no_torch(
    settings: Settings, archive: Path, tiny_zoo: TinyZoo
) -> None:
    for model in tiny_zoo.good[:2]:
        added = add(settings, model)
        assert added.returncode == 0, added.stderr
        assert f"Added {model.name}" in added.stdout
    first = cli(settings, "rank", str(archive), "--models", "tiny_*", "--json")
    assert first.returncode == 0, first.stderr
    view = json.loads(first.stdout)
    with running(settings) as service:
        assert service.call("GET", f"/v1/rankings/{view['id']}") == view
    assert [e["rank"] for e in view["entries"]] == [1, 2]
    assert view["dataset"]["n_images"] == len(CLASSES) * 8

    command = [sys.executable, "-X", "importtime", "-m", "service.cli"]
    second = subprocess.run(
        [*command, "rank", str(archive), "--models", "tiny_*", "--json"],
        env=environment(settings), capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    loaded = {line.rpartition("|")[2].strip() for line in second.stderr.splitlines() if line.startswith("import time:")}
    assert "service.rankings.service" in loaded
    assert loaded & {"torch", "timm", "open_clip", "torchvision", "sklearn", "service.compute.group"} == set()
    again = json.loads(second.stdout)
    assert again["id"] != view["id"]
    assert again["entries"] == view["entries"]
    assert again["progress"]["images_embedded"] == 0

    table = cli(settings, "rank", "trees.zip", "--models", f"{tiny_zoo.names[0]},{tiny_zoo.names[1]}")
    assert table.returncode == 0, table.stderr
    for name in tiny_zoo.names[:2]:
        assert name in table.stdout
    assert "logme" in table.stdout


@pytest.fixture
def here(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """Runs the command in this process: a new one takes seconds."""
    for name, value in environment(settings).items():
        if name.startswith("ZOOSCOUT_"):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(settings.data_dir.parent)

    def call(*words: str) -> Finished:
        monkeypatch.setattr("sys.argv", ["zooscout", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        said = capfd.readouterr()
        return Finished(words, int(ended.value.code or 0), said.out, said.err)

    return call


def added_here(here: Callable[..., Finished], model: TinyModel, *more: str) -> Finished:
    return here(*adding(model), *more)


def test_wrong_weights_are_refused_with_their_first_keys_and_nothing_is_registered(
    settings: Settings, here: Callable[..., Finished], tiny_zoo: TinyZoo
) -> None:
    refused(add(settings, tiny_zoo.wrong), "conv_stem.weight", "missing", "unexpected", status=3)
    refused(added_here(here, tiny_zoo.missing), "nowhere.safetensors", status=3)
    refused(added_here(here, tiny_zoo.good[0], "--mean", "1,2"), "--mean", status=3)
    refused(added_here(here, tiny_zoo.good[0], "--sha256", "zz"), "sha256", status=3)
    listed = json.loads(here("models", "ls", "--json").stdout)
    assert listed == {"items": [], "total": 0, "next_cursor": None}


def test_what_a_user_did_wrong_is_one_line(here: Callable[..., Finished], archive: Path, tiny_zoo: TinyZoo) -> None:
    refused(here("rank", str(archive), "--models", "tiny_*"), "tiny_*", "models add", status=4)
    assert added_here(here, tiny_zoo.good[0]).returncode == 0
    refused(here("rank", str(archive), "--models", "zzz*"), "zzz*", "models ls", status=4)
    refused(here("rank", str(archive), "--models", "tiny_*", "--estimators", "nonsense"), "nonsense", "logme", status=3)
    refused(here("rank", "/nowhere/trees.zip", "--models", "tiny_*"), "/nowhere/trees.zip", status=4)
    refused(here("datasets", "add", "/nowhere"), "/nowhere", status=4)
    refused(here("rankings", "show", "rk_none"), "rk_none", status=4)
    refused(here("models", "show", "nobody"), "nobody", status=4)
    refused(here("models", "ls", "--input-size", "0"), "input_size", status=3)
    (archive.parent / "one.zip").write_bytes(zipped(class_folders(classes=("ash",))))
    refused(here("rank", "one.zip", "--models", "tiny_*"), "ash", status=3)
    refused(added_here(here, tiny_zoo.good[0]), tiny_zoo.good[0].name, "already", status=5)


def test_a_model_that_fails_is_told_by_the_exit_status(
    settings: Settings, here: Callable[..., Finished], archive: Path, tiny_zoo: TinyZoo
) -> None:
    with running(settings) as service:
        service.add_models([tiny_zoo.good[0], tiny_zoo.wrong])
    some = here("rank", str(archive), "--models", "tiny_*", "--json")
    assert some.returncode == 6, some.stderr
    assert [e["state"] for e in json.loads(some.stdout)["entries"]] == ["done", "failed"]
    none = here("rank", str(archive), "--models", tiny_zoo.wrong.name, "--json")
    assert none.returncode == 1, none.stderr
    assert json.loads(none.stdout)["state"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_ranking_goes_on_where_it_stopped(
    tmp_path: Path, tiny_zoo: TinyZoo, number: signal.Signals
) -> None:
    settings = settings_for(tmp_path / "data", None, worker={"batch_size": 1}, store={"segment_rows": 4})
    archive = tmp_path / "many.zip"
    archive.write_bytes(zipped(class_folders(each=100)))
    with running(settings) as service:
        service.add_models(tiny_zoo.good[:1])
    command = [sys.executable, "-m", "service.cli", "rank", str(archive), "--models", "tiny_*", "--json"]
    child = subprocess.Popen(command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list((settings.data_dir / "segments").rglob("*.features.hashes")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(number)
    said, complaint = child.communicate(timeout=60)
    assert child.returncode == 130, complaint
    assert said == b""
    assert b"Traceback" not in complaint
    assert b"again" in complaint
    with running(settings) as service:
        assert {state for kind, state, _ in service.tasks() if kind == "embed"} == {"queued"}
    second = cli(settings, "rank", str(archive), "--models", "tiny_*", "--json")
    assert second.returncode == 0, second.stderr
    view = json.loads(second.stdout)
    assert view["state"] == "done"
    assert 0 < view["progress"]["images_embedded"] < 300


def test_a_folder_that_changes_is_another_dataset(here: Callable[..., Finished], tmp_path: Path) -> None:
    for name, data in class_folders(each=3).items():
        (tmp_path / "trees" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "trees" / name).write_bytes(data)
    added = json.loads(here("datasets", "add", "trees", "--json").stdout)
    assert json.loads(here("datasets", "add", "trees", "--json").stdout)["id"] == added["id"]
    (tmp_path / "trees" / "ash" / "new.png").write_bytes(class_folders(each=1, seed=50)["ash/0.png"])
    changed = json.loads(here("datasets", "add", "trees", "--json").stdout)
    assert changed["id"] != added["id"]
    assert changed["n_images"] == added["n_images"] + 1
    assert (tmp_path / "trees" / "ash" / "new.png").exists()


def test_removing_from_the_command_line(
    settings: Settings, here: Callable[..., Finished], archive: Path, tiny_zoo: TinyZoo
) -> None:
    assert added_here(here, tiny_zoo.good[0]).returncode == 0
    view = json.loads(here("rank", str(archive), "--models", "tiny_*", "--json").stdout)
    for words in (("rankings", "rm", view["id"]), ("datasets", "rm", "trees.zip", "--purge")):
        done = here(*words)
        assert done.returncode == 0, done.stderr
    assert archive.exists()
    left = [path for name in ("blobs", "segments", "manifests") for path in (settings.data_dir / name).rglob("*.*")]
    assert left == []
    assert here("models", "rm", tiny_zoo.names[0]).returncode == 0
    assert here("db", "check").returncode == 0


def test_a_service_is_what_the_command_line_reads(service: Service) -> None:
    dataset = service.sealed()
    listed = json.loads(cli(service.settings, "datasets", "ls", "--json").stdout)
    assert [d["id"] for d in listed["items"]] == [dataset["id"]]
