"""The tutorial and the notebook are run as they stand: what a reader would type, in the order of the page."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from service.client import Client
from tests.helpers.service import ROOT, wait_until

BLOCK = re.compile(r"(?ms)^```(\w+)(?: title=(\S+))?\n(.*?)^```$")


def blocks(page: str) -> list[tuple[str, str | None, str]]:
    """Language, title and text of every block of code."""
    return [(kind, title or None, text) for kind, title, text in BLOCK.findall((ROOT / "docs" / page).read_text())]


@dataclass
class Reader:
    """Types what a page says, in one folder and one environment."""

    folder: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    servers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def follow(self, page: str) -> None:
        for kind, title, text in blocks(page):
            if title and kind == "python":
                (self.folder / title).write_text(text)
            elif title == "server":
                self.serve(text)
            elif title == "environment":
                self.environment |= dict(re.findall(r"(?m)^export (\w+)=(\S+)$", self.here(text)))
            elif kind == "sh":
                self.said.append(self.run("bash", "-euo", "pipefail", "-c", text))
            elif kind == "python":
                raise AssertionError(f"{page}: a block of Python without a name: {text[:60]}")

    def here(self, text: str) -> str:
        return text.replace("127.0.0.1:8750", f"127.0.0.1:{self.port}")

    def run(self, *words: str) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False, timeout=180
        )
        assert done.returncode == 0, f"{words[-1]}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def serve(self, text: str) -> None:
        log = self.folder / "server.log"
        environment = self.environment | {"ZOOSCOUT_SERVER__PORT": str(self.port)}
        with log.open("wb") as out:
            self.servers.append(
                subprocess.Popen(text.split(), cwd=self.folder, env=environment, stdout=out, stderr=out)
            )

        def ready() -> bool:
            assert self.servers[-1].poll() is None, log.read_text()
            try:
                return httpx.get(f"{self.url}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(ready, why="the server of the tutorial")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """One who has been through the tutorial, with the server still running."""
    folder = tmp_path_factory.mktemp("reader")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOSCOUT_")}
    here = {"PATH": path, "ZOOSCOUT_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = Reader(folder, port, kept | here)
    try:
        found.follow("tutorial.md")
        yield found
    finally:
        for server in found.servers:
            server.terminate()
            server.wait(timeout=30)


def test_the_tutorial_leads_where_it_says(reader: Reader) -> None:
    with Client(reader.url) as client:
        (dataset,) = client.datasets().items
        assert (dataset.name, dataset.n_images, dataset.n_classes) == ("shapes", 180, 3)
        ranking = client.ranking(client.rankings().items[0].id)
        assert [entry.model for entry in ranking.entries] == ["pretrained", "untrained"]
        assert {name for name, score in ranking.entries[0].scores.items() if score.value is None} >= {"ped_logme"}
        (outcome,) = httpx.get(f"{reader.url}/v1/outcomes").json()["items"]
        assert (outcome["model"], outcome["accuracy"]) == ("pretrained", 0.93)
        assert client.recommend("shapes").entries[0].model == "pretrained"
    assert any("on top: pretrained" in text for text in reader.said)
    assert (reader.folder / "ranking.json").read_text().startswith("{")


def test_the_notebook_runs(reader: Reader) -> None:
    cells = [text for kind, _, text in blocks("notebook.md") if kind == "python"]
    assert len(cells) >= 5
    said = reader.run(sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", "\n".join(cells))
    scores = dict(re.findall(r"(?m)^(noise|signal) \S+ (\S+)$", said))
    assert float(scores["signal"]) > float(scores["noise"]) + 0.2
    assert "top group: ('pretrained',)" in said
    assert "(180, 96)" in said


def test_no_page_holds_a_path_of_a_machine() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
    assert len(pages) > 40
    found = {
        f"{page.relative_to(ROOT)}: {match}"
        for page in pages
        for match in re.findall(r"(?:/home|/root|/work|/Users|/tmp)/\w+", page.read_text())
    }
    assert not found
