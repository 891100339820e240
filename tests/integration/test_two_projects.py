"""Two projects, a key each: what is another's is answered, to the byte and to the statement, as if it were not there.

Endpoints are found by looking, so a new one is walked as well, or fails here until it is told how to be asked.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from httpx import Response
from sqlalchemy import event

from service.core.settings import ServerSettings
from service.datasets.manifest import read_manifest
from tests.helpers.inhabited import HOOK, Inhabited, bearer, features, inhabit
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, running, settings_for
from tests.helpers.zoo import TinyZoo

Endpoint = tuple[str, str]
OPEN = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("POST", "/logout"),
    ("POST", "/theme"),
}
CSRF = "c" * 43


def form(**fields: str) -> dict[str, Any]:
    """As a page's form sends it."""
    return {"data": {"csrf": CSRF, **fields}, "headers": {"Cookie": f"zooscout_csrf={CSRF}"}}


# What an endpoint with an id in its path needs besides, to come as far as looking for it.
NEEDS: dict[Endpoint, dict[str, Any]] = {
    ("POST", "/v1/datasets/{dataset}/versions"): {"json": {"remove": ["ash/1.png"]}},
    ("POST", "/v1/datasets/{dataset}/inspections"): {"json": {"model": "{model}"}},
    ("GET", "/v1/datasets/{dataset}/neighbours"): {"params": {"model": "{model}", "image": "ash/1.png"}},
    ("GET", "/v1/datasets/{dataset}/map"): {"params": {"model": "{model}"}},
    ("GET", "/v1/datasets/{dataset}/embeddings"): {"params": {"model": "{model}"}},
    ("GET", "/datasets/{dataset}/image"): {"params": {"hash": "0" * 64}},
    ("GET", "/datasets/{dataset}/neighbours"): {"params": {"image": "ash/1.png"}},
    ("POST", "/datasets/{dataset}/inspections"): form(model="{model}"),
    ("POST", "/datasets/{dataset}/outcomes"): form(model="{model}", accuracy="0.5"),
    ("POST", "/datasets/{dataset}/reference"): form(),
    ("POST", "/datasets/{dataset}/remove"): form(),
    ("POST", "/prescores/{prescore}/remove"): form(),
    ("POST", "/rankings/{ranking}/cancel"): form(),
    ("POST", "/rankings/{ranking}/remove"): form(),
    ("POST", "/models/{model}/release"): form(),
    ("POST", "/settings/keys/{key}/revoke"): form(),
    ("POST", "/settings/webhooks/{webhook}/ping"): form(),
    ("POST", "/settings/webhooks/{webhook}/remove"): form(),
}
# Ids that go elsewhere than into a path: `?` is the place, what is in braces is one's own.
ELSEWHERE: dict[Endpoint, list[tuple[str, dict[str, Any]]]] = {
    ("POST", "/v1/datasets/{dataset}/versions"): [("dataset", {"json": {"add": "?"}})],
    ("POST", "/v1/datasets/{dataset}/inspections"): [("model", {"json": {"model": "?"}})],
    ("GET", "/v1/datasets/{dataset}/neighbours"): [
        ("model", {"params": {"model": "?", "image": "ash/1.png"}}),
        ("image", {"params": {"model": "{model}", "image": "?"}}),
    ],
    ("GET", "/v1/datasets/{dataset}/map"): [("model", {"params": {"model": "?"}})],
    ("GET", "/v1/datasets/{dataset}/embeddings"): [("model", {"params": {"model": "?"}})],
    ("POST", "/v1/rankings"): [
        ("dataset", {"json": {"dataset": "?", "models": ["{model}"]}}),
        ("model", {"json": {"dataset": "{dataset}", "models": ["?"]}}),
        ("model", {"json": {"dataset": "{dataset}", "models": ["{model}", "?"]}}),
    ],
    ("POST", "/v1/finetunings"): [
        ("dataset", {"json": {"dataset": "?", "models": ["{model}"]}}),
        ("model", {"json": {"dataset": "{dataset}", "models": ["?"]}}),
    ],
    ("POST", "/v1/prescore"): [("model", {"json": {"models": ["?"]}})],
    ("GET", "/v1/changes"): [("dataset", {"params": {"dataset": "?"}})],
    ("POST", "/datasets/{dataset}/inspections"): [("model", form(model="?"))],
    ("GET", "/datasets/{dataset}/image"): [("image", {"params": {"hash": "?"}})],
    ("POST", "/rankings"): [
        ("dataset", form(dataset="?", models="{model}")),
        ("model", form(dataset="{dataset}", models="?")),
    ],
    ("GET", "/v1/rankings"): [("dataset", {"params": {"dataset": "?"}})],
    ("PUT", "/v1/reference"): [("dataset", {"json": {"dataset": "?"}})],
}
# A list of models is refused with the names of those that are none; a filter finds nothing.
NOT_404 = {
    (("POST", "/v1/rankings"), "model"): 422,
    (("POST", "/v1/prescore"), "model"): 422,
    (("POST", "/v1/finetunings"), "model"): 422,
    (("POST", "/rankings"), "model"): 422,
    (("GET", "/v1/rankings"), "dataset"): 200,
}
# These name nothing that exists; test_what_another_has_is_made_as_if_it_had_it_not sends what the other sent.
NAMELESS = {
    ("POST", "/v1/datasets"),
    ("POST", "/v1/models"),
    ("POST", "/v1/models/import"),
    ("POST", "/v1/scores"),
    ("POST", "/v1/keys"),
    ("POST", "/v1/webhooks"),
    ("POST", "/v1/outcomes"),
    ("DELETE", "/v1/reference"),
    ("POST", "/models"),
    ("POST", "/models/import"),
    ("POST", "/prescores"),
    ("POST", "/settings/keys"),
    ("POST", "/settings/webhooks"),
}


@dataclass(frozen=True)
class Two:
    on: Service
    red: Inhabited
    blue: Inhabited

    @property
    def app(self) -> FastAPI:
        app = self.on.client.app
        assert isinstance(app, FastAPI)
        return app


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo) -> Iterator[Two]:
    folder: Path = tmp_path_factory.mktemp("two")
    url = request.getfixturevalue("postgres").migrated() if request.param == "postgresql" else None
    settings = settings_for(folder / "data", url).model_copy(update={"server": ServerSettings(require_key=True)})
    with running(settings) as on:
        red, blue = (
            inhabit(on, tiny_zoo.good[:2], bearer(on, name), seed=seed) for seed, name in ((1, "red"), (2, "blue"))
        )
        yield Two(on, red, blue)


def routes(app: FastAPI) -> list[Endpoint]:
    """Pages too; of what is no endpoint, files and documentation alone."""
    found = [(route, route.path or "") for route in iter_route_contexts(app.routes) if route.methods]
    every = {(method, path) for route, path in found for method in route.methods or () if method != "HEAD"}
    return sorted(endpoint for endpoint in every - OPEN if not endpoint[1].startswith(("/docs", "/openapi.json")))


def names_in(path: str) -> list[str]:
    return re.findall(r"{(\w+)(?::path)?}", path)


def filled(value: Any, ident: str, own: dict[str, list[str]]) -> Any:
    """The same with `?` and what is in braces replaced."""
    match value:
        case dict():
            return {key: filled(item, ident, own) for key, item in value.items()}
        case list():
            return [filled(item, ident, own) for item in value]
        case "?":
            return ident
        case str():
            return re.sub(r"{(\w+)}", lambda found: own[found[1]][0], value)
    return value


@contextmanager
def statements(two: Two) -> Iterator[list[str]]:
    said: list[str] = []
    engine = two.app.state.zooscout.database.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", note)


def absent(ident: str) -> str:
    """Of the same make, and nobody's."""
    head, tail = ident[:-6], ident[-6:]
    return head + ("zzzzzz" if "_" in head else "012345"[::-1] if tail != "543210" else "012345")


def seen(two: Two, method: str, path: str, ident: str, **options: Any) -> tuple[Any, ...]:
    """All of an answer that could tell something, without the id itself, and what it took to find it."""
    with statements(two) as said:
        answer = two.on.client.request(
            method, path, headers=two.blue.headers | options.pop("headers", {}), follow_redirects=False, **options
        )
    headers = {k: v for k, v in answer.headers.items() if k not in {"x-request-id", "content-length", "date"}}
    return answer.status_code, answer.text.replace(ident, "ID"), headers, said


def compare(two: Two, endpoint: Endpoint, kind: str, options: dict[str, Any], *, in_path: str | None) -> None:
    method, template = endpoint
    theirs = hashes(two, two.red)[:1] if kind == "image" else two.red.ids[kind] + two.red.doomed.get(kind, [])
    for ident in theirs:

        def both(ident: str = ident) -> list[tuple[Any, ...]]:
            answers = []
            for asked in (ident, absent(ident)):
                mine = {**two.blue.ids, **({in_path: [asked]} if in_path is not None else {})}
                path = filled(template, "", mine)
                answers.append(seen(two, method, path, asked, **filled(options, asked, mine)))
            return answers

        foreign, nothing = both()
        if any("SET last_used_at" in said for said in (*foreign[3], *nothing[3])):
            foreign, nothing = both()  # a minute was over, and one of the two noted that the key is in use
        assert foreign == nothing, (endpoint, kind)
        assert foreign[0] == NOT_404.get((endpoint, kind), 404), (endpoint, kind, foreign)
        assert foreign[0] != 200 or '"items":[]' in foreign[1]


def hashes(two: Two, of: Inhabited) -> list[str]:
    dataset = of.ids["dataset"][0]
    [path] = two.on.settings.manifest_root.rglob(f"{dataset}.parquet")
    return [row.content_hash.hex() for row in read_manifest(path).rows()]


def test_no_endpoint_is_forgotten(two: Two) -> None:
    found = routes(two.app)
    assert len(found) >= 30
    for endpoint in found:
        for name in names_in(endpoint[1]):
            assert name in two.red.ids, f"{endpoint}: tests/helpers/inhabited.py makes no {name}"
        named = names_in(endpoint[1]) or endpoint in ELSEWHERE
        assert named or endpoint[0] == "GET" or endpoint in NAMELESS, f"{endpoint} has no case here"
    assert {*NEEDS, *ELSEWHERE, *NAMELESS} <= set(found)


def test_another_projects_ids_are_ids_of_nothing(two: Two) -> None:
    two.on.call("GET", "/v1/models", headers=two.blue.headers)  # the key's last use is noted now
    before = everything_of(two, two.red)
    for endpoint in routes(two.app):
        for name in names_in(endpoint[1]):
            compare(two, endpoint, name, NEEDS.get(endpoint, {}), in_path=name)
        for kind, options in ELSEWHERE.get(endpoint, []):
            compare(two, endpoint, kind, options, in_path=None)
    assert everything_of(two, two.red) == before


def everything_of(two: Two, of: Inhabited) -> list[Any]:
    lists = [path for method, path in routes(two.app) if method == "GET" and not names_in(path) and "/v1/" in path]
    shown: list[Any] = []
    for path in lists:
        answer: Response = two.on.client.get(path, headers=of.headers)
        text = re.sub(r'"last_used_at":("[^"]*"|null)', "", answer.text)
        shown.append((path, answer.status_code, text))
    return shown


def test_no_list_or_page_shows_anothers(two: Two) -> None:
    theirs = two.red.everything | set(hashes(two, two.red))
    for method, path in routes(two.app):
        if method == "GET" and not names_in(path):
            for params in ({}, {"limit": 1000}):
                text = two.on.client.get(path, headers=two.blue.headers, params=params).text
                assert not {ident for ident in theirs if ident in text}, path


def test_what_another_has_is_made_as_if_it_had_it_not(two: Two, tiny_zoo: TinyZoo) -> None:
    """An archive, a model, features and the like that red has sent, and the like that nobody has."""

    def made(of: Inhabited, method: str, path: str, **options: Any) -> tuple[int, set[str], list[str], str]:
        with statements(two) as said:
            answer = two.on.client.request(method, path, headers=of.headers, **options)
        assert answer.status_code < 300, answer.text
        body = answer.json()
        return answer.status_code, set(body), said, str(body.get("id") or body.get("task_id"))

    def same(known: dict[str, Any], new: dict[str, Any], path: str) -> list[str]:
        made(two.red, "POST", path, **known)
        with_known, with_new = (made(two.blue, "POST", path, **options) for options in (known, new))
        assert with_known[:3] == with_new[:3], path
        return [with_known[3], with_new[3]]

    archives = [zipped(class_folders(each=3, seed=seed)) for seed in (71, 72)]
    datasets = same({"content": archives[0]}, {"content": archives[1]}, "/v1/datasets")
    model = tiny_zoo.good[2]
    same({"json": model.request(name="shared.a")}, {"json": model.request(name="new.a")}, "/v1/models")
    same(
        {"json": {"source": "timm", "filter": "x*"}}, {"json": {"source": "timm", "filter": "y*"}}, "/v1/models/import"
    )
    same({"content": features()}, {"content": features() + b""}, "/v1/scores")
    same({"json": {"name": "shared"}}, {"json": {"name": "new"}}, "/v1/keys")
    same({"json": {"url": f"{HOOK}/1"}}, {"json": {"url": f"{HOOK}/2"}}, "/v1/webhooks")
    key = {"Idempotency-Key": "of both"}
    body = {"source": "timm", "filter": "z*"}
    first, second = (
        two.on.client.post("/v1/models/import", json=body, headers=who.headers | key) for who in (two.red, two.blue)
    )
    assert "idempotency-replayed" not in second.headers
    assert first.json()["task_id"] != second.json()["task_id"]

    two.on.work()
    views = [two.on.call("GET", f"/v1/datasets/{ident}", headers=two.blue.headers) for ident in datasets]
    assert [view["state"] for view in views] == ["sealed", "sealed"]
    assert views[0].keys() == views[1].keys()
    assert views[0]["report"].keys() == views[1]["report"].keys()
    ranked = []
    for ident in datasets:
        asked = {"dataset": ident, "models": two.blue.ids["model"]}
        ranking = two.on.call("POST", "/v1/rankings", 202, json=asked, headers=two.blue.headers)["id"]
        two.on.work()
        progress = two.on.call("GET", f"/v1/rankings/{ranking}", headers=two.blue.headers)["progress"]
        ranked.append((progress["images_to_embed"], progress["images_embedded"]))
    assert ranked[0] == ranked[1]
    assert ranked[0][0] > 0


def test_removing_ones_own_reference_leaves_the_others(two: Two) -> None:
    named = two.on.call("GET", "/v1/reference", headers=two.red.headers)["dataset"]
    two.on.call("DELETE", "/v1/reference", 204, headers=two.blue.headers)
    assert two.on.call("GET", "/v1/reference", headers=two.red.headers)["dataset"] == named
    two.on.call("GET", "/v1/reference", 404, headers=two.blue.headers)
