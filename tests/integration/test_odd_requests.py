"""Requests that no description would lead to: each is refused with a problem, or does no harm."""

import base64
import json
from pathlib import Path

import pytest

from service.core.pagination import Cursor
from tests.helpers.service import Service, running, settings_for

JSON = {"Content-Type": "application/json"}
DEEP = b"[" * 200_000
BODIES = [
    DEEP,
    b'{"dataset":' + DEEP,
    b'{"dataset": "a", "models": ["b"], "dataset": "\\ud800"}',
    b'{"dataset": NaN, "models": [Infinity]}',
    b'{"dataset": "a", "models": {"min_params": 1e400}}',
    b'{"dataset": "a", "models": {"min_params": ' + b"9" * 5000 + b"}}",
    b"\xff\xfe{\x00}\x00",
    b"\xef\xbb\xbf{}",
    b'"text"',
    b"null",
    b"1" * 6000,
    b"{" + b'"a":1,' * 50_000 + b'"b":2}',
    b"",
]
TYPES = [
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "a/b/c; =;",
    "application/xml",
]
MODEL = {"name": "odd.a", "architecture": "test_resnet", "weights": "file:/nowhere.safetensors"}
MODELS = [
    MODEL | {"arch_kwargs": {"a": float("nan")}},
    MODEL | {"arch_kwargs": {"a": 2**70}},
    MODEL | {"arch_kwargs": {"a": "x" * 100_000}},
    MODEL | {"arch_kwargs": {"a\u0000b": {"c": ["\u0000"]}}},
    MODEL | {"mean": [float("inf"), 0, 0]},
    MODEL | {"std": [0, 0, 0]},
    MODEL | {"tags": {f"k{n}": "v" for n in range(3000)}},
    MODEL | {"weights": "file:" + "/x" * 5000},
    MODEL | {"weights": "hf-hub:" + "a" * 3000 + "/b"},
    MODEL | {"weights": "wheel:../../x==1/../../etc/passwd"},
    MODEL | {"name": "\u202e" * 200},
    MODEL | {"name": "n", "architecture": "../../etc"},
    MODEL | {"input_size": 2**40},
    MODEL | {"crop_pct": 1e-300},
    MODEL | {"licence": "\ud800"},
]


def cursors(sort: str) -> list[str]:
    keys = [
        None,
        "\0",
        "\ud800",
        2**63,
        -(2**63),
        10**400,
        1.5,
        True,
        [],
        {},
        "x" * 3000,
        "0000-00-00",
        "9999-12-31T23:59:59-14:00",
    ]
    made = [json.dumps([sort, key, ident]) for key in keys for ident in ("mdl_0", "\0", 7, None, "")]
    packed = [base64.urlsafe_b64encode(text.encode("utf-8", "surrogatepass")).decode().rstrip("=") for text in made]
    return [
        *packed,
        "",
        "=",
        "é",
        "A",
        "AA",
        "%00",
        "x" * 1999,
        Cursor("a", "b").encode(sort=sort),
        "bnVsbA",
        "W10",
        "MQ",
    ]


@pytest.fixture
def on(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    url = request.getfixturevalue("postgres").migrated() if kind == "postgresql" else None
    with running(settings_for(tmp_path / "data", url), raise_bugs=False) as service:
        yield service


@pytest.fixture
def here(tmp_path: Path):
    """Where no database is asked, one will do."""
    with running(settings_for(tmp_path / "data", None), raise_bugs=False) as service:
        yield service


def assert_sound(answer, what: object) -> None:
    assert answer.status_code < 500, (what, answer.status_code, answer.text[:300])
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", what
        assert answer.json()["status"] == answer.status_code


def test_odd_bodies(here: Service) -> None:
    for method, path in (
        ("POST", "/v1/rankings"),
        ("POST", "/v1/models"),
        ("PUT", "/v1/reference"),
        ("POST", "/v1/keys"),
    ):
        for body in BODIES:
            for kind in TYPES if body in BODIES[:2] or path == "/v1/rankings" else TYPES[:1]:
                answer = here.client.request(method, path, content=body, headers={"Content-Type": kind})
                assert_sound(answer, (method, path, kind, body[:60]))
                assert answer.status_code >= 400
    for body in BODIES:
        assert_sound(here.client.post("/v1/datasets/x/versions", content=body, headers=JSON), body[:60])
        assert_sound(here.client.post("/v1/datasets", content=body, headers=JSON), body[:60])
        assert_sound(here.client.post("/v1/scores", content=body), body[:60])


def test_odd_models(on: Service) -> None:
    for number, body in enumerate(MODELS):
        sent = json.dumps({**body, "name": f"{body['name'][:150]}{number}"})
        answer = on.client.post("/v1/models", content=sent, headers=JSON)
        assert_sound(answer, sent[:200])
    on.call("GET", "/v1/models")


@pytest.mark.parametrize("sort", ["name", "-created_at"])
def test_odd_cursors(on: Service, sort: str) -> None:
    direction = {"sort": sort.lstrip("-"), "descending": sort.startswith("-")}
    for cursor in cursors(sort):
        assert_sound(on.client.get("/v1/models", params={**direction, "cursor": cursor}), cursor)
        for path in ("/v1/datasets", "/v1/rankings"):
            assert_sound(on.client.get(path, params={"cursor": cursor}), cursor)


def test_odd_queries_and_paths(on: Service) -> None:
    odd = [
        "\0",
        "%00",
        "\ud800",
        "é" * 500,
        "x" * 9000,
        "..",
        "../x",
        "a b",
        "%",
        "'",
        "\\",
        "*",
        "_%",
        "\U0001f408",
        "9" * 400,
        "",
    ]
    for text in odd:
        sent = text.encode("utf-8", "surrogatepass")
        quoted = "".join(f"%{byte:02x}" for byte in sent)
        for path in (
            "/v1/models/{}",
            "/v1/datasets/{}",
            "/v1/rankings/{}",
            "/v1/rankings/{}/events",
            "/v1/scores/{}",
            "/datasets/{}",
        ):
            assert_sound(on.client.get(path.format(quoted)), (path, text[:30]))
        for name in ("name", "text", "family", "tag", "sort", "limit", "min_params", "cursor", "descending", "state"):
            for value in (quoted, f"a%3D{quoted}"):
                assert_sound(on.client.get(f"/v1/models?{name}={value}"), (name, text[:30]))
        assert_sound(on.client.get(f"/v1/rankings?dataset={quoted}"), text[:30])
        assert_sound(on.client.delete(f"/v1/models/{quoted}"), text[:30])


def test_odd_headers(here: Service) -> None:
    odd = [
        b"",
        b"\xff",
        b"a" * 7000,
        b"\xe2\x80\xae",
        b"wait=9999",
        b"wait=-1",
        b",,,",
        b'W/"x',
        b"*, *",
        b"Bearer",
        b"Bearer  ",
        b"Basic eA==",
        b"http://[",
        b"//]",
    ]
    for name in (
        "Idempotency-Key",
        "If-Match",
        "If-None-Match",
        "Prefer",
        "Last-Event-ID",
        "X-Request-ID",
        "Authorization",
        "Cookie",
        "Accept",
        "Origin",
    ):
        for value in odd:
            headers = [(name.encode(), value)]
            for method, path in (
                ("GET", "/v1/models"),
                ("DELETE", "/v1/models/x"),
                ("POST", "/v1/models/import"),
                ("GET", "/v1/rankings/x/events"),
            ):
                answer = here.client.request(
                    method,
                    path,
                    headers=headers,
                    content=b'{"source":"timm","filter":"x"}' if method == "POST" else None,
                )
                assert_sound(answer, (name, value[:20], method, path))
    for host in ("", "127.0.0.1:99999", "[::1", "127.0.0.1:x", "localhost.", "[]", "@", "é"):
        assert_sound(here.client.get("/v1/models", headers=[(b"Host", host.encode())]), host)
    for length in ("-1", "x", "99999999999999999999"):
        answer = here.client.post("/v1/rankings", content=iter([b"{}"]), headers={"Content-Length": length, **JSON})
        assert_sound(answer, length)
