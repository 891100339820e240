"""Another package brings an estimator, a source of models, a dataset format and an executor; nothing here changes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.core.settings import ExecutorSettings
from tests.helpers.pictures import class_folders
from tests.helpers.service import ROOT, environment, settings_for
from tests.helpers.zoo import TinyZoo

TOY = ROOT / "tests" / "data" / "toy_plugins"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the toy."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(TOY, folder / "source")
    words = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "site")]
    subprocess.run([sys.executable, "-m", "pip", *words, str(folder / "source")], check=True)
    return folder / "site"


def python(code: str, site: Path | None, tmp_path: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    settings = settings_for(tmp_path / "data", None).model_copy(update={"executor": ExecutorSettings(kind="toy")})
    path = os.pathsep.join([*([str(site)] if site else []), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(settings, PYTHONPATH=path, **more),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )


COMMANDS = """
import sys
from typer.testing import CliRunner
from service.cli.main import command_line
for words in {commands!r}:
    done = CliRunner().invoke(command_line(), words)
    print(done.stdout, flush=True)
    assert done.exit_code == 0, (words, done.output, done.exception)
    print("=====", flush=True)
"""


def toyset(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"TOYSET1\n")
        for name, data in class_folders().items():
            file.write(json.dumps({"path": name, "size": len(data)}).encode() + b"\n" + data)


def test_one_ranking_with_all_of_them(site: Path, tmp_path: Path, tiny_zoo: TinyZoo) -> None:
    toyset(tmp_path / "trees.toyset")
    box = tmp_path / "box"
    box.mkdir()
    model = next(model for model in tiny_zoo.good if model.architecture == "test_resnet")
    shutil.copy(model.path, box / "one.safetensors")
    commands = [
        ["models", "import", "toybox", "--filter", "toybox.*", "--json"],
        ["rank", str(tmp_path / "trees.toyset"), "--models", "toybox.*", "--estimators", "eta_squared,logme", "--json"],
    ]
    done = python(COMMANDS.format(commands=commands), site, tmp_path, TOYBOX=str(box))
    assert done.returncode == 0, done.stdout + done.stderr
    imported, ranked = (json.loads(part) for part in done.stdout.split("=====")[:2])
    assert (imported["source"], imported["added"]) == ("toybox", 1)
    (entry,) = ranked["entries"]
    assert entry["model"] == "toybox.one"
    assert 0 < entry["scores"]["eta_squared"]["value"] < 1
    assert entry["scores"]["eta_squared"]["diagnostics"] == {"classes": 3}
    assert entry["scores"]["logme"]["value"] is not None
    assert "embed" in (tmp_path / "data" / "toy-executor.log").read_text().split()


def test_the_api_lists_them_without_torch(site: Path, tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        "from service.api.app import create_app\n"
        "create_app()\n"
        "from estimators.catalog import SPECS\nfrom zoo.catalog import SOURCES\n"
        "from service.datasets.sources import FORMATS\n"
        "print(json.dumps([*SPECS, *SOURCES, *FORMATS]))\n"
        "sys.exit('torch' in sys.modules)"
    )
    with_toy = python(code, site, tmp_path)
    assert with_toy.returncode == 0, with_toy.stderr
    assert {"eta_squared", "toybox", "toyset"} <= set(json.loads(with_toy.stdout))


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """One that cannot be imported, one that is no spec, one that takes a name of ours."""
    about = tmp_path / "site" / "bad-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[zooscout.estimators]\na = bad_zooscout:absent\nb = json:dumps\nc = bad_zooscout:TAKEN\n"
    )
    (tmp_path / "site" / "bad_zooscout.py").write_text(
        "from dataclasses import replace\nfrom estimators.catalog import SPECS\n"
        "TAKEN = replace(SPECS['logme'], title='not LogME')\n"
    )
    return tmp_path / "site"


def test_a_broken_one_is_left_out_and_the_log_says_which(broken: Path, tmp_path: Path) -> None:
    code = (
        "from service.api.app import create_app\ncreate_app()\n"
        "from estimators.catalog import SPECS\nprint(SPECS['logme'].title)"
    )
    done = python(code, broken, tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "LogME"), done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {(line["event"], line["plugin"]) for line in lines if line["event"].startswith("plugin.")} == {
        ("plugin.broken", "bad_zooscout:absent"),
        ("plugin.broken", "json:dumps"),
        ("plugin.name_taken", "bad_zooscout:TAKEN"),
    }


def test_an_estimator_that_is_gone_is_named(tmp_path: Path) -> None:
    code = "from estimators.catalog import SPECS\nSPECS['eta_squared']"
    done = python(code, None, tmp_path)
    assert "'eta_squared' is not installed here: install the package that brings it" in done.stderr
