"""API keys over real HTTP requests: who gets in, how far, and what shows of other projects."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from service.core.clock import utc_now
from service.core.db import Database
from service.core.settings import ServerSettings
from service.keys import repository, service
from service.keys.schemas import KeyCreate, Scope
from service.keys.tables import DEFAULT_PROJECT
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, cli, process, running, settings_for, wait_until


def guarded(tmp_path: Path, url: str | None) -> "pytest.Generator[Service]":
    settings = settings_for(tmp_path / "data", url)
    settings = settings.model_copy(update={"server": ServerSettings(require_key=True)})
    with running(settings) as made:
        yield made


@pytest.fixture
def locked(tmp_path: Path, empty_url: str):
    yield from guarded(tmp_path, empty_url)


def make_key(database: Database, scope: Scope, *, project: str = DEFAULT_PROJECT, days: int | None = None) -> str:
    with database.write() as session:
        owner = repository.project_named(session, project)
        return service.create(session, owner.id, KeyCreate(name="test", scope=scope, expires_in_days=days)).key


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_without_a_valid_key_nothing_is_answered(locked: Service) -> None:
    key = make_key(locked.database, Scope.READ)
    tampered = key[:-1] + ("A" if key[-1] != "A" else "B")
    for headers in ({}, bearer("nonsense"), bearer(tampered), bearer(f"zs_{'0' * 26}_{'A' * 43}")):
        for method, path in (("GET", "/v1/models"), ("GET", "/v1/estimators"), ("POST", "/v1/rankings")):
            answer = locked.client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["type"] == "/problems/unauthorized"
    assert locked.client.get("/v1/models", headers=bearer(key)).status_code == 200
    assert locked.client.get("/healthz").status_code == 200


def test_a_scope_reaches_as_far_as_it_says(locked: Service) -> None:
    read, write, admin = (bearer(make_key(locked.database, scope)) for scope in Scope)
    body = zipped(class_folders())
    locked.call("POST", "/v1/datasets", 403, params={"name": "a"}, content=body, headers=read)
    locked.call("POST", "/v1/datasets", 202, params={"name": "a"}, content=body, headers=write)
    locked.call("GET", "/v1/keys", 403, headers=write)
    locked.call("POST", "/v1/keys", 403, json={"name": "more", "scope": "admin"}, headers=write)
    made = locked.call("POST", "/v1/keys", 201, json={"name": "more", "scope": "read"}, headers=admin)
    assert locked.client.get("/v1/datasets", headers=bearer(made["key"])).status_code == 200
    listed = locked.call("GET", "/v1/keys", headers=admin)["items"]
    assert "key" not in listed[0]
    assert listed[0]["last_used_at"] is not None


def test_a_revoked_or_expired_key_ends_at_once(locked: Service) -> None:
    admin = bearer(make_key(locked.database, Scope.ADMIN))
    made = locked.call("POST", "/v1/keys", 201, json={"name": "short", "scope": "read"}, headers=admin)
    locked.call("GET", "/v1/models", headers=bearer(made["key"]))
    assert locked.call("DELETE", f"/v1/keys/{made['id']}", headers=admin)["revoked_at"] is not None
    locked.call("GET", "/v1/models", 401, headers=bearer(made["key"]))
    dated = make_key(locked.database, Scope.READ, days=1)
    locked.call("GET", "/v1/models", headers=bearer(dated))
    with locked.database.write() as session:
        repository.keys_of(session, None)[0].expires_at = utc_now() - timedelta(seconds=1)
    locked.call("GET", "/v1/models", 401, headers=bearer(dated))


def test_the_secret_is_not_in_the_database(locked: Service) -> None:
    key = make_key(locked.database, Scope.READ)
    with locked.database.read() as session:
        row = repository.keys_of(session, None)[0]
        assert key.split("_", 2)[2] not in str(vars(row))
        assert re.fullmatch("[0-9a-f]{64}", row.secret_sha256)


def test_projects_do_not_see_each_other(locked: Service) -> None:
    mine, theirs = (bearer(make_key(locked.database, Scope.ADMIN, project=name)) for name in ("red", "blue"))
    body = zipped(class_folders())
    made = locked.call("POST", "/v1/datasets", 202, params={"name": "a"}, content=body, headers=mine)
    again = locked.call("POST", "/v1/datasets", 202, params={"name": "a"}, content=body, headers=theirs)
    assert again["id"] != made["id"]
    unknown = locked.call(
        "GET", f"/v1/datasets/{made['id'][:-1]}{'0' if made['id'][-1] != '0' else '1'}", 404, headers=theirs
    )
    foreign = locked.call("GET", f"/v1/datasets/{made['id']}", 404, headers=theirs)
    assert foreign["title"] == unknown["title"]
    assert [d["id"] for d in locked.call("GET", "/v1/datasets", headers=theirs)["items"]] == [again["id"]]
    key = locked.call("GET", "/v1/keys", headers=mine)["items"][0]["id"]
    locked.call("DELETE", f"/v1/keys/{key}", 404, headers=theirs)


def test_people_sign_in_with_a_key(locked: Service) -> None:
    key = make_key(locked.database, Scope.WRITE)
    sent_away = locked.client.get("/datasets/x", follow_redirects=False)
    assert (sent_away.status_code, sent_away.headers["location"]) == (303, "/login?next=/datasets/x")
    refused = locked.client.post("/login", data={"key": "zs_wrong", "next": "/"})
    assert refused.status_code == 401
    assert "unknown, expired or revoked" in refused.text
    entered = locked.client.post("/login", data={"key": key, "next": "//elsewhere.example"}, follow_redirects=False)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= set(entered.headers["set-cookie"].lower().split("; "))
    assert locked.client.get("/").status_code == 200
    locked.client.post("/logout")
    assert locked.client.get("/", follow_redirects=False).status_code == 303


def test_without_keys_only_pages_of_this_machine_are_served(service: Service) -> None:
    assert service.client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    body = {"dataset": "x", "models": ["y"]}
    answer = service.client.post("/v1/rankings", json=body, headers={"Origin": "http://evil.example"})
    assert answer.status_code == 403
    own = service.client.post("/v1/rankings", json=body, headers={"Origin": "http://127.0.0.1"})
    assert own.status_code == 404


def test_serve_on_another_address_refuses_to_start_without_a_key(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", None)
    refused = cli(settings, "serve", "--host", "0.0.0.0", "--port", "0", "--no-worker")  # noqa: S104
    assert refused.returncode == 1
    assert "zooscout keys create" in refused.stderr
    made = cli(settings, "keys", "create", "ci", "--scope", "read")
    assert made.stdout.startswith("zs_")
    (key,) = re.findall(r"key_\w+", made.stderr)
    log = tmp_path / "log"
    with process(settings, log, "service.cli", "serve", "--host", "0.0.0.0", "--port", "0", "--no-worker"):  # noqa: S104
        wait_until(lambda: "zooscout is at" in log.read_text(), why="serve starts")
    revoked = cli(settings, "keys", "revoke", key)
    assert revoked.returncode == 0, revoked.stderr
    assert "revoked" in cli(settings, "keys", "ls").stdout
