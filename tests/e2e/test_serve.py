"""The service as its users run it: `zooscout serve`, the client, the pages, and an end that leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from service.client import ApiProblem, Client
from service.core.settings import Settings
from service.models.schemas import ModelCreate, ModelFilter
from service.rankings.schemas import RankingCreate, RankingStatus, RankingView
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import environment, settings_for, wait_until
from tests.helpers.zoo import TinyZoo


@dataclass(frozen=True)
class Served:
    child: subprocess.Popen[str]
    url: str
    settings: Settings
    log: Path
    seen: set[int] = field(default_factory=set)

    def family(self) -> set[int]:
        """The server and the worker that it started."""
        children = Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        if children.exists():
            self.seen.update({self.child.pid, *map(int, children.read_text().split())})
        return self.seen


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    settings = settings_for(tmp_path / "data", None)
    log = tmp_path / "serve.log"
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--port", "0"],
            env=environment(settings),
            cwd=tmp_path,
            stderr=out,
            text=True,
        )
    family: set[int] = set()
    try:
        wait_until(lambda: re.search(r"http://\S+", log.read_text()) or child.poll() is not None, why=log.read_text())
        found = re.search(r"http://\S+", log.read_text())
        assert found, log.read_text()
        url = found[0]
        wait_until(lambda: answers(url), why="the API answers")
        running = Served(child, url, settings, log, seen=family)
        yield running
        running.family()
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for pid in family:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_all_it_started(served: Served, number: signal.Signals) -> None:
    wait_until(lambda: len(served.family()) == 2, why="the worker is started")
    wait_until(lambda: httpx.get(f"{served.url}/readyz").json()["workers"] == 1, why="the worker reports")
    family = served.family()
    began = time.monotonic()
    served.child.send_signal(number)
    served.child.wait(timeout=40)
    wait_until(lambda: not any(alive(pid) for pid in family), seconds=10, why=f"{family} end")
    assert time.monotonic() - began < 25
    assert served.child.returncode == 128 + number
    assert "Traceback" not in served.log.read_text()


def test_a_ranking_from_the_client_to_the_pages(served: Served, tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    archive = tmp_path / "trees.zip"
    archive.write_bytes(zipped(class_folders()))
    with Client(served.url) as client:
        for model in (*tiny_zoo.good[:2], tiny_zoo.wrong):
            client.add_model(ModelCreate.model_validate(model.request()))
        proven = client.wait_for_model(tiny_zoo.names[0], timeout_seconds=120)
        assert (proven.state, proven.feature_dim) == ("ready", 96)
        assert client.wait_for_model(tiny_zoo.wrong.name, timeout_seconds=60).state == "failed"
        assert client.models(ModelFilter(name="tiny_*", state="ready")).total == 2
        watched: list[RankingView] = []
        sent: list[tuple[int, int]] = []
        client.upload_dataset(archive, progress=lambda done, total: sent.append((done, total)))
        assert sent[-1] == (archive.stat().st_size,) * 2
        view = client.rank(
            archive, models=ModelFilter(name="tiny_*"), estimators=["logme", "knn"], watch=watched.append,
            timeout_seconds=120,
        )  # fmt: skip
        assert watched[-1] == view
        assert view.state == "done"
        assert [e.rank for e in view.entries] == [1, 2, None]
        assert client.ranking(view.id) == view
        assert [r.id for r in client.rankings().items] == [view.id]
        assert [d.id for d in client.datasets().items] == [view.dataset.id]
        with pytest.raises(ApiProblem, match="nobody") as caught:
            client.model("nobody")
        assert (caught.value.status, caught.value.type) == (404, "/problems/not-found")
        bad = tmp_path / "bad.zip"
        bad.write_bytes(zipped({"a/1.png": b"x", "b/1.png": b"y"}))
        with pytest.raises(ApiProblem, match="refused") as refused:
            client.rank(bad, models=[tiny_zoo.names[0]], timeout_seconds=60)
        assert (refused.value.status, refused.value.type) == (422, "/problems/nothing-readable")

        pages = {
            path: httpx.get(f"{served.url}{path}")
            for path in ("/", f"/rankings/{view.id}", f"/datasets/{view.dataset.id}")
        }
        for page in pages.values():
            assert page.status_code == 200
            assert page.headers["content-type"].startswith("text/html")
            assert "trees.zip" in page.text
            for link in re.findall(r'(?:href|src)="(/[^"#]*)"', page.text):
                assert httpx.get(f"{served.url}{link}").status_code == 200, link
        table = pages[f"/rankings/{view.id}"].text
        for entry in view.entries:
            assert entry.model in table
        assert "timm.create_model" in table
        assert httpx.get(f"{served.url}/rankings/rk_none").status_code == 404

        client.remove_ranking(view.id)
        client.remove_dataset(view.dataset.id, purge=True)
        wait_until(lambda: not list((served.settings.data_dir / "blobs").rglob("*/??/*")), why="the purge")
        client.remove_model(tiny_zoo.names[0])


def test_a_taken_port_and_an_open_address_are_refused_in_one_line(served: Served, tmp_path: Path) -> None:
    port = served.url.rpartition(":")[2]
    for words, expected in (
        (["--port", port], f"Cannot listen on 127.0.0.1:{port}"),
        (["--host", "0.0.0.0", "--port", "0"], "API keys"),  # noqa: S104
    ):
        said = subprocess.run(
            [sys.executable, "-m", "service.cli", "serve", "--no-worker", *words],
            env=environment(served.settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert said.returncode == 1
        assert len(said.stderr.strip().splitlines()) == 1
        assert expected in said.stderr


def test_a_ranking_is_followed_as_it_happens(served: Served, tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    archive = tmp_path / "trees.zip"
    archive.write_bytes(zipped(class_folders()))
    with Client(served.url) as client:
        names = [client.add_model(ModelCreate.model_validate(model.request())).name for model in tiny_zoo.good[:2]]
        dataset = client.wait_for_dataset(client.upload_dataset(archive).id, timeout_seconds=60)
        ranking = client.create_ranking(RankingCreate(dataset=dataset.id, models=names)).id
        crowd = [threading.Thread(target=lambda: ends.append(list(client.follow(ranking))[-1])) for _ in range(60)]
        ends: list[RankingStatus] = []
        for follower in crowd:
            follower.start()
        heard = list(client.follow(ranking))
        assert [status.state for status in heard[:-1]] == sorted(
            (status.state for status in heard[:-1]), key=["queued", "running"].index
        )
        assert all(before != after for before, after in pairwise(heard))
        assert heard[-1].state == "done"
        assert heard[-1].progress == client.ranking(ranking).progress
        assert heard[-1].progress.models_done == 2
        for follower in crowd:
            follower.join(timeout=60)
        assert ends == [heard[-1]] * 60
        again = httpx.get(f"{served.url}/v1/rankings/{ranking}/events", timeout=10).text
        assert again.count("event: done") == 1
        assert "event: progress" not in again
        with pytest.raises(ApiProblem, match="no ranking 'rk_none'"):
            list(client.follow("rk_none"))
