"""Both clients against a served service: the same calls, streams, and a service that is busy."""

import asyncio
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.client import ApiProblem, AsyncClient, Client, WaitTimeout
from service.client.results import Ranking, RankingStatus
from service.models.schemas import ModelFilter
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import process, running, settings_for, wait_until
from tests.helpers.zoo import TinyZoo


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo) -> Iterator[str]:
    """A service with a worker and two models."""
    folder = tmp_path_factory.mktemp("served")
    settings, log = settings_for(folder / "data", None), folder / "log"
    with running(settings) as service:
        service.add_models(tiny_zoo.good[:2])
    with process(settings, log, "service.cli", "serve", "--port", "0"):
        wait_until(lambda: "zooscout is at" in log.read_text(), why="serve starts")
        found = re.search(r"zooscout is at (http://\S+)", log.read_text())
        assert found is not None
        yield found[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images") / "trees"
    for name, data in class_folders().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def test_the_blocking_client_ranks_a_folder_and_hears_of_it(served: str, folder: Path, tiny_zoo: TinyZoo) -> None:
    heard: list[Ranking] = []
    sent: list[tuple[int, int]] = []
    with Client(served) as client:
        ranking = client.rank(
            folder,
            models="tiny_*",
            estimators=["logme", "knn"],
            ordered_by="knn",
            watch=heard.append,
            progress=lambda done, size: sent.append((done, size)),
        )
        assert ranking.state == "done"
        assert {entry.model for entry in ranking.entries} == set(tiny_zoo.names[:2])
        assert (ranking.ordered_by, ranking.dataset.name) == ("knn", "trees")
        assert heard[-1] == ranking
        assert sent[-1][0] == sent[-1][1] > 0
        assert client.upload_dataset(folder).id == ranking.dataset.id  # the same folder is the same archive
        assert client.rank("trees", models="tiny_*").dataset.id == ranking.dataset.id  # by the name that it has there
        with pytest.raises(FileNotFoundError, match=r"'leaves' is neither a file or folder .* nor a dataset"):
            client.rank("leaves", models="tiny_*")
        again = client.start_rank(folder, models=ModelFilter(name="tiny_*"))
        states = list(client.follow(again.id))
        assert states[-1].ended
        assert isinstance(states[0], RankingStatus)
        assert client.rankings(limit=1).items[0].id == again.id
        with pytest.raises(ApiProblem) as refused:
            client.ranking("rk_none")
        assert (refused.value.status, refused.value.type) == (404, "/problems/not-found")
        with pytest.raises(ApiProblem):
            list(client.follow("rk_none"))
        with pytest.raises(WaitTimeout):
            client.import_models("timm", name_glob="resnet18*", timeout_seconds=0)


def test_a_dataset_that_is_refused_is_the_problem_that_rank_raises(served: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(zipped({"a/1.png": b"no image", "b/1.png": b"none"}))
    with Client(served) as client, pytest.raises(ApiProblem, match="refused") as refused:
        client.rank(bad, models="tiny_*")
    assert refused.value.type == "/problems/nothing-readable"


def test_the_other_client_does_the_same_on_an_event_loop(served: str, folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncClient(served) as client:
            ranking = await client.rank(folder, models="tiny_*")
            assert ranking.state == "done"
            pages = await asyncio.gather(*(client.models(limit=1) for _ in range(5)))
            assert {page.total for page in pages} == {pages[0].total}
            again = await client.start_rank(folder, models="tiny_*")
            assert [status.state async for status in client.follow(again.id)][-1] == "done"
            target = tmp_path / "out.parquet"
            size = await client.export_embeddings(ranking.dataset.id, ranking.entries[0].model, target)
            assert target.stat().st_size == size > 0
            with pytest.raises(ApiProblem) as refused:
                await client.export_embeddings(ranking.dataset.id, "nobody", tmp_path / "none")
            assert refused.value.status == 404
            with pytest.raises(ApiProblem):
                await client.model("nobody")

    asyncio.run(main())


class _Busy(BaseHTTPRequestHandler):
    """Refuses a few times, as a real service under load would."""

    refusals: list[tuple[int, str | None]]
    keys: list[str | None]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).keys.append(self.headers.get("Idempotency-Key"))
        status, after = type(self).refusals.pop(0) if type(self).refusals else (202, None)
        body = b'{"task_id": "t", "state": "queued", "result": {}, "error": null}'
        self.send_response(status)
        if after is not None:
            self.send_header("Retry-After", after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def busy() -> Iterator[tuple[str, type[_Busy]]]:
    handler = type("Handler", (_Busy,), {"refusals": [], "keys": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_busy_service_is_asked_again_when_it_says_and_not_for_ever(busy: tuple[str, type[_Busy]]) -> None:
    url, handler = busy
    with Client(url, patience_seconds=2.0) as client:
        handler.refusals = [(429, "0"), (503, "1"), (429, "Sat, 21 Nov 2020 10:00:00 GMT")]
        assert client.start_import("timm").task_id == "t"
        assert len(handler.keys) == 4
        assert len(set(handler.keys)) == 1
        for refusal in ((429, "3600"), (503, None), (500, "0")):  # too long, unknown how long, and no promise at all
            handler.refusals, handler.keys = [refusal], []
            with pytest.raises(ApiProblem) as refused:
                client.start_import("timm")
            assert refused.value.status == refusal[0]
            assert len(handler.keys) == 1

    async def main() -> None:
        async with AsyncClient(url, patience_seconds=2.0) as other:
            handler.refusals, handler.keys = [(503, "0")], []
            assert (await other.start_import("timm")).task_id == "t"
            assert len(handler.keys) == 2

    asyncio.run(main())
