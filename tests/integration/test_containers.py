"""Dockerfile and compose file, without an engine: linted, checked against the specification, and their commands run."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers.containers import Stage, absent_modules, compose, hide, listed, stages
from tests.helpers.databases import PostgresServer
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import ROOT, wait_until
from tests.helpers.zoo import TinyZoo

BIN = Path(sys.executable).parent
PASSWORD = "correct-horse"
NOT_NEEDED = {"torch", "torchvision", "timm", "scipy", "scikit-learn", "open-clip-torch", "triton"}


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BIN / "hadolint", path], capture_output=True, text=True, check=False)


def of_specification(path: Path) -> subprocess.CompletedProcess[str]:
    words = [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_the_dockerfile_is_linted(tmp_path: Path) -> None:
    said = hadolint(ROOT / "Dockerfile")
    assert said.returncode == 0, said.stdout
    worse = tmp_path / "Dockerfile"
    worse.write_text((ROOT / "Dockerfile").read_text().replace("python:3.11-slim", "python"))
    assert "DL3006" in hadolint(worse).stdout


def test_the_compose_file_is_of_the_specification(tmp_path: Path) -> None:
    said = of_specification(ROOT / "docker-compose.yml")
    assert said.returncode == 0, said.stdout
    worse = tmp_path / "docker-compose.yml"
    worse.write_text((ROOT / "docker-compose.yml").read_text().replace("depends_on:", "depend_on:"))
    assert "depend_on" in of_specification(worse).stdout


def test_every_package_of_an_image_is_listed_with_its_hash() -> None:
    found = stages((ROOT / "Dockerfile").read_text())
    assert found["api"].lists == ["requirements-api.lock"]
    assert found["worker"].lists == ["requirements-api.lock", "requirements-worker.lock", "requirements-cuda.lock"]
    packages = {name: listed(name) for name in {*found["worker"].lists, *found["wheel"].lists}}
    for name, hashes in packages.items():
        assert hashes, name
        assert all(hashes.values()), f"{name}: {[package for package, held in hashes.items() if not held]}"
    assert not NOT_NEEDED & packages["requirements-api.lock"].keys()
    assert not any(package.startswith("nvidia-") for package in packages["requirements-api.lock"])
    assert packages["requirements-worker.lock"].keys() >= NOT_NEEDED - {"triton"} | {"ray", "transformers"}
    assert "opentelemetry-sdk" in packages["requirements-api.lock"]
    assert "triton" in packages["requirements-cuda.lock"]
    assert not re.search(r"pip install (?!--no-deps (--require-hashes|/dist/))", (ROOT / "Dockerfile").read_text())


def test_what_the_images_copy_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    for stage in stages((ROOT / "Dockerfile").read_text()).values():
        for name in stage.copied:
            assert (ROOT / name).exists(), name
            assert any(Path(name).match(pattern) for pattern in kept), name


def test_the_services_hang_together() -> None:
    with pytest.raises(KeyError, match="ZOOSCOUT_DB_PASSWORD"):
        compose({})
    whole = compose({"ZOOSCOUT_DB_PASSWORD": PASSWORD})
    services, found = whole["services"], stages((ROOT / "Dockerfile").read_text())
    for name, service in services.items():
        if "build" in service:
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"]
            assert found[service["build"]["target"]].user.split(":")[0] not in {"0", "root"}
        for other in service.get("depends_on", {}):
            assert other in services, name
        for volume in service["volumes"]:
            assert volume.split(":")[0] in whole["volumes"], name
    assert {name for name, service in services.items() if "ports" in service} == {"api"}
    assert services["api"]["ports"] == ["127.0.0.1:8750:8750"]
    assert services["worker"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "deploy" not in services["worker-cpu"]
    assert (services["worker"]["profiles"], services["worker-cpu"]["profiles"]) == (["gpu"], ["cpu"])
    assert services["ray-head"]["profiles"] == services["ray-node"]["profiles"] == ["ray"]


@dataclass(frozen=True)
class Host:
    """This machine in place of an engine: a folder for the volume, a socket for the database's address."""

    folder: Path
    socket_folder: str
    port: int
    uid: int | None  # what containers run as, where this machine can do that
    further: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self, service: dict[str, Any], stage: Stage) -> dict[str, str]:
        given = stage.environment | service.get("environment", {})
        here = {
            name: value.replace("@postgres/zooscout", f"@/zooscout?host={self.socket_folder}").replace(
                "/data", str(self.folder / "data")
            )
            for name, value in given.items()
        }
        hidden = self.folder / f"without-{len(stage.lists)}"
        return (
            here
            | self.further
            | {
                "PATH": f"{BIN}{os.pathsep}{os.defpath}",
                "PYTHONPATH": f"{hidden}{os.pathsep}{self.folder / 'wheel'}",
                "HOME": "/nonexistent",
                "OMP_NUM_THREADS": "1",
            }
        )

    def words(self, words: list[str]) -> list[str]:
        here = {"8750": str(self.port), "ray-head:": "127.0.0.1:", "6379": str(self.port + 1)}
        for there, found in here.items():
            words = [word.replace(there, found) for word in words]
        return words

    def run(self, service: dict[str, Any], stage: Stage, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words([*words] or service.get("command") or stage.command),
            env=self.environment(service, stage),
            cwd=self.folder / "data",
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    @contextmanager
    def up(
        self, service: dict[str, Any], stage: Stage, log: Path, *, ended: int = 0
    ) -> Iterator["subprocess.Popen[bytes]"]:
        with log.open("wb") as out:
            child = subprocess.Popen(
                self.words(service.get("command") or stage.command),
                env=self.environment(service, stage),
                cwd=self.folder / "data",
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
                stdout=out,
                stderr=out,
            )
        try:
            yield child
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=30) in {ended, 128 + signal.SIGTERM}, log.read_text()
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()


def uid_of(stage: Stage) -> int | None:
    """The image's user, where this process may become it and it can read this Python."""
    uid = int(stage.user.split(":")[0])
    if os.geteuid() != 0:
        return None
    words = [sys.executable, "-c", "import fastapi"]
    try:
        subprocess.run(words, user=uid, group=uid, extra_groups=[], capture_output=True, check=True, cwd="/")
    except (PermissionError, subprocess.CalledProcessError):
        return None
    return uid


@pytest.fixture
def host(postgres: PostgresServer) -> Iterator[Host]:
    found = stages((ROOT / "Dockerfile").read_text())
    socket_folder = postgres.owned_by("zooscout", PASSWORD)
    uid = uid_of(found["api"])
    # Not pytest's own folder, which no other user may enter.
    with socket.socket() as free, tempfile.TemporaryDirectory(prefix="zs-host-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
        subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(folder / "wheel")
        for stage in (found["api"], found["worker"]):
            hidden = folder / f"without-{len(stage.lists)}"
            hidden.mkdir()
            hide(absent_modules(stage.lists), hidden)
        (folder / "data").mkdir()
        if uid is not None:
            shutil.chown(folder / "data", uid, uid)
            for parent in (Path(socket_folder), *Path(socket_folder).parents):
                if parent.stat().st_mode & 0o005 != 0o005:
                    parent.chmod(parent.stat().st_mode | 0o055)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        yield Host(folder, socket_folder, port, uid)


def test_the_commands_of_the_containers_from_nothing_to_a_sealed_dataset(
    host: Host, postgres: PostgresServer, tmp_path: Path
) -> None:
    found = stages((ROOT / "Dockerfile").read_text())
    services = compose({"ZOOSCOUT_DB_PASSWORD": PASSWORD})["services"]
    api, worker = found["api"], found["worker"]

    kind, *ready = services["postgres"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    where = {"PATH": f"{postgres.programs}{os.pathsep}{os.defpath}", "PGHOST": host.socket_folder}
    subprocess.run(["/bin/sh", "-c", *ready], env=where, check=True, capture_output=True, timeout=30)

    migrated = host.run(services["migrate"], api)
    assert migrated.returncode == 0, migrated.stderr
    refused = host.run(services["api"], api)
    assert refused.returncode == 1
    assert "zooscout keys create" in refused.stderr
    made = host.run(services["migrate"], api, "zooscout", "keys", "create", "me", "--scope", "admin")
    assert made.returncode == 0, made.stderr
    key = {"Authorization": f"Bearer {made.stdout.strip()}"}
    with host.up(services["api"], api, tmp_path / "api.log"):
        wait_until(
            lambda: host.run(services["api"], api, *api.healthcheck).returncode == 0,
            seconds=60,
            why=(tmp_path / "api.log").read_text(),
        )
        assert httpx.get(f"{host.url}/v1/datasets").status_code == 401
        archive = zipped(class_folders())
        sent = httpx.post(f"{host.url}/v1/datasets", params={"name": "trees"}, content=archive, headers=key)
        assert sent.status_code == 202, sent.text
        address = f"{host.url}/v1/datasets/{sent.json()['id']}"
        assert httpx.get(address, headers=key).json()["state"] == "checking"
        with host.up(services["worker-cpu"], worker, tmp_path / "worker.log"):
            wait_until(
                lambda: httpx.get(address, headers=key).json()["state"] == "sealed",
                seconds=90,
                why=(tmp_path / "worker.log").read_text(),
            )
            assert httpx.get(f"{host.url}/readyz").json()["workers"] == 1
    for line in (tmp_path / "worker.log").read_text().splitlines():
        assert "event" in json.loads(line), line  # what an engine collects can be parsed


@pytest.fixture
def with_ray(host: Host) -> Iterator[Host]:
    """Ray's own processes, which no parent ends, are told by the folder that they were given for their sockets."""
    pytest.importorskip("ray")
    sockets = host.folder / "r"  # short: a socket's path ends at 107 bytes
    sockets.mkdir()
    if host.uid is not None:
        shutil.chown(sockets, host.uid, host.uid)
    try:
        yield replace(host, further={"RAY_TMPDIR": str(sockets)})
    finally:
        for found in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                if f"RAY_TMPDIR={sockets}".encode() in found.read_bytes():
                    os.kill(int(found.parent.name), signal.SIGKILL)


@pytest.mark.skipif(os.environ.get("ZOOSCOUT_SLOW_TESTS") != "1", reason="set ZOOSCOUT_SLOW_TESTS=1 to run it")
def test_the_commands_of_the_ray_profile_rank_on_its_node(
    with_ray: Host, postgres: PostgresServer, tiny_zoo: TinyZoo, tmp_path: Path
) -> None:
    host, found = with_ray, stages((ROOT / "Dockerfile").read_text())
    services = compose({"ZOOSCOUT_DB_PASSWORD": PASSWORD})["services"]
    api, worker = found["api"], found["worker"]
    migrated = host.run(services["migrate"], api)
    assert migrated.returncode == 0, migrated.stderr
    made = host.run(services["migrate"], api, "zooscout", "keys", "create", "me", "--scope", "admin")
    weights = shutil.copy(tiny_zoo.good[0].path, host.folder / "tiny.safetensors")
    logs = {name: tmp_path / f"{name}.log" for name in ("api", "ray-head", "ray-node")}
    with (
        host.up(services["api"], api, logs["api"]),
        host.up(services["ray-head"], worker, logs["ray-head"]),
        httpx.Client(base_url=host.url, headers={"Authorization": f"Bearer {made.stdout.strip()}"}) as client,
    ):

        def alive() -> int:
            with suppress(httpx.TransportError):
                return int(client.get("/readyz").json()["workers"])
            return 0

        _until(lambda: alive() == 1, logs)
        with host.up(services["ray-node"], worker, logs["ray-node"], ended=1):  # Ray's own word for SIGTERM
            request = tiny_zoo.good[0].request(weights=f"file:{weights}")
            assert client.post("/v1/models", json=request).status_code in {201, 202}
            sent = client.post("/v1/datasets", params={"name": "trees"}, content=zipped(class_folders()))
            assert sent.status_code == 202, sent.text
            ranking = client.post("/v1/rankings", json={"dataset": "trees", "models": [request["name"]]}).json()["id"]
            ended = {"done", "failed", "cancelled"}
            _until(lambda: client.get(f"/v1/rankings/{ranking}").json()["state"] in ended, logs)
            view = client.get(f"/v1/rankings/{ranking}").json()
            assert view["state"] == "done", logs["ray-head"].read_text()
            assert view["entries"][0]["scores"]["logme"]["value"] is not None


def _until(true: Callable[[], object], logs: dict[str, Path]) -> None:
    try:
        wait_until(true, seconds=180)
    except AssertionError as error:
        said = "\n".join(f"{name}: {log.read_text()[-3000:]}" for name, log in logs.items() if log.exists())
        raise AssertionError(said) from error


def test_the_image_of_the_api_has_no_torch_and_none_is_missed(host: Host) -> None:
    found = stages((ROOT / "Dockerfile").read_text())
    service = compose({"ZOOSCOUT_DB_PASSWORD": PASSWORD})["services"]["api"]
    said = host.run(service, found["api"], "python", "-c", "import torch")
    assert "No module named 'torch' in this image" in said.stderr
    for words in (["--help"], ["models", "--help"], ["db", "check"]):
        ran = host.run(service, found["api"], "zooscout", *words)
        assert "No module named" not in ran.stderr, ran.stderr
