"""What is handed out: the same bytes from every build, all the package needs in them, and a start without torch."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from estimators.catalog import SPECS
from tests.helpers.containers import absent_modules, hide
from tests.helpers.service import ROOT, wait_until

EPOCH = "1767225600"
EXTRAS = {"worker", "ray", "s3", "text", "otel", "notebook", "dev"}
IN_THE_WHEEL = {
    "service/_migrations/env.py",
    "service/_migrations/script.py.mako",
    "service/cli/demo.py",
    "service/py.typed",
    "service/recommendations/data/published.csv",
    "service/web/static/main.js",
    "service/web/templates/base.html",
    "estimators/logme.py",
    "zoo/data/architectures.json",
    "zoo/data/imagenet.csv",
}


def build(source: Path, target: Path, *kinds: str, umask: int = 0o022) -> dict[str, Path]:
    """The files that a build leaves, by their suffix."""
    words = [sys.executable, "-m", "hatchling", "build", "-d", target]
    words += [word for kind in kinds for word in ("-t", kind)]
    subprocess.run(
        words, cwd=source, env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH}, umask=umask, check=True, capture_output=True
    )
    return {path.suffix: path for path in target.iterdir() if path.suffix in {".whl", ".gz"}}


@dataclass(frozen=True)
class Built:
    wheel: Path
    sdist: Path
    unpacked: Path  # the folder in the sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    made = build(ROOT, folder, "wheel", "sdist")
    with tarfile.open(made[".gz"]) as archive:
        archive.extractall(folder / "sdist", filter="data")
    return Built(made[".whl"], made[".gz"], next((folder / "sdist").iterdir()))


def test_another_build_from_another_folder_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    again = build(built.unpacked, tmp_path, "wheel", "sdist", umask=0o077)
    assert again[".whl"].name == built.wheel.name
    assert again[".whl"].read_bytes() == built.wheel.read_bytes()
    assert again[".gz"].read_bytes() == built.sdist.read_bytes()


def test_the_wheel_holds_what_the_package_needs_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        names = set(wheel.namelist())
    assert names >= IN_THE_WHEEL
    for folder in ("service/web/templates", "service/web/static", "service/recommendations/data", "zoo/data"):
        for path in (ROOT / folder).iterdir():
            assert path.is_dir() or path.relative_to(ROOT).as_posix() in names, path
    migrations = {f"service/_migrations/versions/{path.name}" for path in (ROOT / "migrations/versions").glob("*.py")}
    assert migrations
    assert migrations <= names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"service", "estimators", "zoo"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".sqlite")]


def test_the_wheel_names_every_extra_and_asks_for_torch_in_one_alone(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        said = metadata.PathDistribution(zipfile.Path(wheel, name.removesuffix("METADATA"))).metadata
    assert set(said.get_all("Provides-Extra") or ()) == EXTRAS
    asks = [line for line in said.get_all("Requires-Dist") or () if line.startswith(("torch", "timm", "open-clip"))]
    assert asks
    assert all(line.endswith("extra == 'worker'") for line in asks), asks


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel and sees this one's other packages, but for those of the extras."""

    bin: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "HOME": str(self.folder), "ZOOSCOUT_DATA_DIR": str(self.folder / "data")}

    def run(self, *words: str | Path, status: int = 0) -> str:
        """What it wrote: its results, or with another status its complaint."""
        done = subprocess.run(
            [self.bin / words[0], *words[1:]],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        return done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", symlinks=True)
    found = Installed(folder / "venv" / "bin", folder)
    install = [sys.executable, "-m", "pip", "--python", found.bin / "python", "install", "--quiet", "--no-index"]
    subprocess.run([*install, "--no-deps", built.wheel], check=True, capture_output=True)
    site = Path(found.run("python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    here = {str(Path(metadata.distribution(name).locate_file(""))) for name in ("fastapi", "faiss-cpu", "numpy")}
    (site / "beside.pth").write_text("\n".join(sorted(here)) + "\n")
    hide([*absent_modules(["requirements-api.lock"]), "s3fs", "aiobotocore"], site)
    return found


def test_the_installed_command_teaches_and_migrates(installed: Installed) -> None:
    where = installed.run("python", "-c", "import service; print(service.__file__)")
    assert where.startswith(str(installed.folder)), where
    assert "zooscout models import timm" in installed.run("zooscout", "--help")
    assert "X-rays" in installed.run("zooscout", "demo", "--help")
    installed.run("zooscout", "db", "upgrade")
    assert (installed.folder / "data" / "zooscout.sqlite").is_file()
    said = installed.run("zooscout", "models", "import", "timm", status=1)
    assert "pip install 'zooscout[worker]'" in said
    assert "Traceback" not in said


def test_the_api_answers_where_no_extra_is_installed(installed: Installed, tmp_path: Path) -> None:
    look = "try:\n import torch\nexcept ModuleNotFoundError as error:\n print(error)"
    assert "No module named 'torch'" in installed.run("python", "-c", look)
    log = tmp_path / "log"
    with log.open("wb") as out:
        words = [installed.bin / "zooscout", "serve", "--port", "0"]
        child = subprocess.Popen(words, env=installed.environment, cwd=installed.folder, stdout=out, stderr=out)
    try:
        wait_until(lambda: re.search(r"http://\S+", log.read_text()) or child.poll() is not None, why="nothing said")
        found = re.search(r"http://[\w.:]+", log.read_text())
        assert found, log.read_text()
        with httpx.Client(base_url=found[0], transport=httpx.HTTPTransport(retries=5)) as client:
            assert client.get("/readyz").json()["ready"] is True
            assert {one["name"] for one in client.get("/v1/estimators").json()["items"]} == set(SPECS)
            assert "zooscout" in client.get("/").text
            assert client.get("/readyz?worker=required").status_code == 503
            said = " ".join(log.read_text().split())
            assert "No worker is started here: torch is not installed" in said, said
            assert "pip install 'zooscout[worker]'" in said
    finally:
        child.terminate()
        child.wait()
    refused = " ".join(installed.run("zooscout", "worker", status=1).split())
    assert "No worker can run here: torch is not installed" in refused, refused
