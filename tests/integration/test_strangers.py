"""What strangers may do to the service: how often, how much, how slowly; and what is written down of it."""

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.api.rates import Rates
from service.core.settings import QuotaSettings, ServerSettings, Settings
from service.keys import repository, service
from service.keys.schemas import KeyCreate, Scope
from service.keys.tables import DEFAULT_PROJECT
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, environment, process, running, settings_for, wait_until

PROBLEM = "application/problem+json"


def started(tmp_path: Path, url: str | None = None, /, **changed: Any) -> Any:
    settings: Settings = settings_for(tmp_path / "data", url).model_copy(update=changed)
    return running(settings)


def make_key(on: Service, *, project: str = DEFAULT_PROJECT, scope: Scope = Scope.WRITE) -> dict[str, str]:
    with on.database.write() as session:
        owner = repository.project_named(session, project)
        made = service.create(session, owner.id, KeyCreate(name="test", scope=scope))
    return {"Authorization": f"Bearer {made.key}", "X-Key": made.id}


def test_a_bucket_holds_a_minute_and_fills_evenly() -> None:
    now = 0.0
    rates = Rates(60, clock=lambda: now)
    for n in range(60):
        taken = rates.take("a")
        assert taken is not None
        assert taken.granted, n
    refused = rates.take("a")
    assert refused is not None
    assert not refused.granted
    assert refused.headers == {
        "RateLimit-Policy": '"key";q=60;w=60',
        "RateLimit": '"key";r=0;t=1',
        "Retry-After": "1",
    }
    assert rates.take("b").granted  # type: ignore[union-attr]
    now = 0.9
    assert not rates.take("a").granted  # type: ignore[union-attr]
    now = 1.1
    assert rates.take("a").granted  # type: ignore[union-attr]
    assert not rates.take("a").granted  # type: ignore[union-attr]
    now = 1e6
    assert rates.take("a").headers["RateLimit"] == '"key";r=59;t=0'  # type: ignore[union-attr]
    assert Rates(None).take("a") is None


def test_a_key_that_asks_too_often_is_told_when_to_come_back(tmp_path: Path) -> None:
    with started(tmp_path, server=ServerSettings(requests_per_minute=5)) as on:
        busy, calm = make_key(on), make_key(on)
        answers = [on.client.get("/v1/estimators", headers=busy) for _ in range(6)]
        assert [a.status_code for a in answers] == [200] * 5 + [429]
        assert [a.headers["ratelimit"] for a in answers[:2]] == ['"key";r=4;t=0', '"key";r=3;t=0']
        assert answers[5].json()["type"] == "/problems/too-many-requests"
        assert answers[5].headers["content-type"] == PROBLEM
        assert 1 <= int(answers[5].headers["retry-after"]) <= 12
        assert on.client.get("/v1/estimators", headers=calm).status_code == 200
        assert "ratelimit" not in on.client.get("/v1/estimators").headers  # the user of this machine has no key


def test_a_project_brings_no_more_than_its_quota(each_service: Service, tmp_path: Path) -> None:
    archives = [zipped(class_folders(seed=seed)) for seed in range(3)]
    first = each_service.upload(archives[0], name="a")
    each_service.work()
    images = each_service.call("GET", f"/v1/datasets/{first['id']}")["n_images"]
    assert images > 0
    room = {
        "stored_bytes": QuotaSettings(stored_bytes=len(archives[0]) + len(archives[1])),
        "images": QuotaSettings(images=2 * images),
    }
    for what, quotas in room.items():
        settings = each_service.settings.model_copy(update={"quotas": quotas})
        with running(settings) as on:
            second = on.upload(archives[1], name="b")  # still being checked, and counted already
            problem = on.upload(archives[2], name="c", status=413)
            assert problem["type"] == "/problems/quota-exceeded"
            assert what.replace("stored_", "") in problem["detail"]
            assert on.upload(archives[0], name="a", status=200)["id"] == first["id"]  # brings nothing
            other = make_key(on, project=f"other {what}")
            on.call("POST", "/v1/datasets", 202, content=archives[2], headers=other)
            on.work()
            assert on.files("uploads") == []
            assert len(on.call("GET", "/v1/datasets")["items"]) == 2
            on.call("DELETE", f"/v1/datasets/{second['id']}", 204)
            third = on.upload(archives[2], name="c")
            on.work()
            on.call("DELETE", f"/v1/datasets/{third['id']}", 204)


def test_a_project_has_no_more_waiting_than_its_quota(each_service: Service) -> None:
    settings = each_service.settings.model_copy(update={"quotas": QuotaSettings(queued_tasks=2)})
    with running(settings) as on:
        body = {"source": "timm", "filter": "nothing*"}
        for _ in range(2):
            on.call("POST", "/v1/models/import", 202, json=body)
        refused = on.call("POST", "/v1/models/import", 429, json=body)
        assert refused["type"] == "/problems/too-much-queued"
        on.upload(zipped(class_folders()), status=429)
        assert on.files("uploads") == []
        assert len(on.tasks()) == 2
        on.call("POST", "/v1/models/import", 202, json=body, headers=make_key(on, project="other"))
        on.work()
        on.call("POST", "/v1/models/import", 202, json=body)


def test_a_body_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    with started(tmp_path, server=ServerSettings(max_body_bytes=1000)) as on:
        told = on.client.post("/v1/rankings", content=b"x" * 1001)
        chunked = on.client.post("/v1/rankings", content=iter([b"x" * 600] * 3))
        for answer in (told, chunked):
            assert answer.status_code == 413
            assert answer.headers["content-type"] == PROBLEM
            assert "1,000 bytes" in answer.json()["detail"]
        assert on.client.post("/v1/rankings", content=b"x" * 1000).status_code == 422
        on.upload(zipped(class_folders()))  # has its own caps


def port_of(log: Path) -> int:
    """Of a service that has begun to listen."""

    def listens() -> bool:
        found = re.search(r"zooscout is at http://[^:]+:(\d+)", log.read_text())
        if found is None:
            return False
        port.append(int(found[1]))
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", port[-1])) == 0

    port: list[int] = []
    wait_until(listens, why="serve starts")
    return port[-1]


def read_answer(connection: socket.socket) -> bytes:
    said = b""
    while chunk := connection.recv(65536):
        said += chunk
    return said


@pytest.mark.parametrize("path", ["/v1/rankings", "/v1/datasets"])
def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, path: str, monkeypatch: Any) -> None:
    settings = settings_for(tmp_path / "data", None)
    monkeypatch.setattr(
        "tests.helpers.service.environment",
        lambda s, **more: environment(s, **more) | {"ZOOSCOUT_SERVER__RECEIVE_SECONDS": "1"},
    )
    log = tmp_path / "log"
    with process(settings, log, "service.cli", "serve", "--port", "0", "--no-worker"):
        port = port_of(log)
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                "Content-Length: 100000\r\n\r\n{".encode()
            )
            began = time.monotonic()
            said = read_answer(slow)
            assert 0.5 < time.monotonic() - began < 10
        assert said.startswith(b"HTTP/1.1 408"), said
        assert b"1 bytes came in 1 seconds" in said
        with socket.create_connection(("127.0.0.1", port), timeout=30) as quick:
            quick.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            assert read_answer(quick).startswith(b"HTTP/1.1 200")
    assert not list((tmp_path / "data" / "uploads").glob("*"))


def lines_of(said: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_every_write_leaves_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with started(tmp_path, log_level="info", log_format="json") as on:
        reader, writer = make_key(on, scope=Scope.READ), make_key(on)
        capfd.readouterr()
        on.call("GET", "/v1/models", headers=writer)
        done = on.client.post("/v1/models/import", json={"source": "timm"}, headers=writer)
        on.call("POST", "/v1/models/import", 403, json={"source": "timm"}, headers=reader)
        on.call("POST", "/v1/models/import", 401, json={"source": "timm"}, headers={"Authorization": "Bearer zs_x"})
        on.call("DELETE", "/v1/models/nobody", 404)
        lines = [line for line in lines_of(capfd.readouterr().err) if line["event"] == "audit"]
    seen = [(line["key"], line["method"], line["path"], line["status"]) for line in lines]
    assert seen == [
        (writer["X-Key"], "POST", "/v1/models/import", 202),
        (reader["X-Key"], "POST", "/v1/models/import", 403),
        (None, "POST", "/v1/models/import", 401),
        (None, "DELETE", "/v1/models/nobody", 404),
    ]
    assert lines[0]["project"] == DEFAULT_PROJECT or lines[0]["project"].startswith("pr_")
    assert lines[0]["request_id"] == done.headers["x-request-id"]
    assert all(writer["Authorization"].rpartition("_")[2] not in json.dumps(line) for line in lines)


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/v1/models/none", "/static/style.css", "/nowhere"])
def test_every_answer_bears_an_id(service: Service, path: str) -> None:
    made = [service.client.get(path).headers["x-request-id"] for _ in range(2)]
    assert made[0] != made[1]
    assert service.client.get(path, headers={"X-Request-ID": "from-the-proxy.1"}).headers["x-request-id"] == (
        "from-the-proxy.1"
    )
    for odd in ("a b", "x" * 65, "{'a'}"):
        assert service.client.get(path, headers={"X-Request-ID": odd}).headers["x-request-id"] != odd


def test_a_bug_is_found_by_the_id_of_its_answer(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the secret of the house")

    on = make_service(raise_bugs=False)
    monkeypatch.setattr("service.models.service.list_models", bug)
    answer = on.client.get("/v1/models", headers={"X-Request-ID": "mine"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "mine"
    assert answer.headers["x-content-type-options"] == "nosniff"  # no answer goes out without them
    assert "under mine." in answer.json()["detail"]
    said = capfd.readouterr().err
    assert said.count("request.failed") == 1
    assert "the secret of the house" in said


@pytest.mark.parametrize("path", ["/v1/models", "/v1/rankings", "/healthz", "/openapi.json", "/"])
def test_no_other_site_is_let_in_by_cors(service: Service, path: str) -> None:
    origin = {"Origin": "https://elsewhere.example"}
    preflight = service.client.options(path, headers=origin | {"Access-Control-Request-Method": "GET"})
    asked = service.client.get(path, headers=origin)
    assert preflight.status_code == 405
    for answer in (preflight, asked):
        assert not [name for name in answer.headers if name.startswith("access-control-")]
