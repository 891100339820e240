"""Models over HTTP: register, prove, filter, sort, page, remove."""

import base64
import hashlib
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from service.core.db import Database
from service.keys.tables import DEFAULT_PROJECT
from service.models import repository as models
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo
from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef


def put_cards(database: Database, n: int = 25) -> list[str]:
    """Cards whose sort keys repeat and are unknown at times, as a registry's are."""
    with database.write() as session:
        for i in range(n):
            architecture = ("resnet", "vit_base", "net_50")[i % 3]
            card = ModelCard(
                name=f"{architecture}.tag_{i}",
                library="timm" if i % 4 else "open_clip",
                architecture=architecture,
                tag=f"tag_{i}",
                family=architecture,
                params=None if i % 5 == 0 else (i % 4) * 1_000_000,
                macs=None if i % 2 else i,
                feature_dim=(None, 64, 2048)[i % 3],
                preprocess=PreprocessConfig(input_size=(3, 32 * (1 + i % 3), 32 * (1 + i % 3))),
                licence=("mit", None, "apache-2.0")[i % 3],
                pretrained_on=("ImageNet-1k", "LAION-2B")[i % 2],
                imagenet_top1=None if i % 6 == 0 else 0.7 + (i % 7) / 70,
                weights=WeightsRef(uri=f"hf-hub:someone/model-{i}"),
                tags={"team": f"t{i % 2}"},
            )
            models.add(session, DEFAULT_PROJECT, card, state="unresolved")
    return [f"{('resnet', 'vit_base', 'net_50')[i % 3]}.tag_{i}" for i in range(n)]


def pages(service: Service, **query: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = service.call("GET", "/v1/models", params={"limit": 4, **query, **cursor})
        assert len(page["items"]) <= 4
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_pages_give_the_whole_list_once_and_in_order(each_service: Service) -> None:
    names = put_cards(each_service.database)
    for sort in ("name", "params", "macs", "input_size", "feature_dim", "imagenet_top1", "created_at"):
        for descending in (False, True):
            check_pages(each_service, names, sort=sort, descending=descending)


def check_pages(each_service: Service, names: list[str], *, sort: str, descending: bool) -> None:
    query = {"sort": sort, "descending": descending}
    whole = each_service.call("GET", "/v1/models", params={**query, "limit": 1000})
    assert whole["total"] == len(names)
    assert whole["next_cursor"] is None
    assert {m["name"] for m in whole["items"]} == set(names)
    assert pages(each_service, **query) == whole["items"]
    keys = [m[sort] for m in whole["items"]]
    known = [key for key in keys if key is not None]
    assert keys == known + [None] * (len(keys) - len(known))
    if sort != "name":  # text is ordered by the database's collation
        assert all((a >= b) if descending else (a <= b) for a, b in itertools.pairwise(known))


FILTERS = [
    ({"name": "resnet.*"}, lambda m: m["architecture"] == "resnet"),
    ({"name": "RESNET.tag_?"}, lambda m: m["name"] in {f"resnet.tag_{i}" for i in (0, 3, 6, 9)}),
    ({"name": "net_50*"}, lambda m: m["architecture"] == "net_50"),
    ({"name": "%"}, lambda m: False),
    ({"name": "vitXbase*"}, lambda m: False),
    ({"name": "ne_?50*"}, lambda m: False),
    ({"text": "imagenet MIT"}, lambda m: m["pretrained_on"] == "ImageNet-1k" and m["licence"] == "mit"),
    ({"text": "team=t1"}, lambda m: m["tags"] == {"team": "t1"}),
    ({"library": "open_clip"}, lambda m: m["library"] == "open_clip"),
    ({"family": "vit_base", "licence": "apache-2.0"}, lambda m: False),
    ({"licence": "apache-2.0"}, lambda m: m["licence"] == "apache-2.0"),
    ({"pretrained_on": "LAION-2B"}, lambda m: m["pretrained_on"] == "LAION-2B"),
    ({"min_params": 2_000_000}, lambda m: m["params"] is not None and m["params"] >= 2_000_000),
    ({"max_params": 1_000_000}, lambda m: m["params"] is not None and m["params"] <= 1_000_000),
    ({"input_size": 64}, lambda m: m["input_size"] == 64),
    ({"max_input_size": 64}, lambda m: m["input_size"] <= 64),
    ({"state": "ready"}, lambda m: False),
    ({"tag": ["team=t0", "team=t0"]}, lambda m: m["tags"]["team"] == "t0"),
]


def test_every_filter_keeps_what_it_says_and_no_more(each_service: Service) -> None:
    put_cards(each_service.database)
    everything = each_service.call("GET", "/v1/models", params={"limit": 1000})["items"]
    for query, expected in FILTERS:
        found = each_service.call("GET", "/v1/models", params={**query, "limit": 1000})
        assert [m["name"] for m in found["items"]] == [m["name"] for m in everything if expected(m)], query
        assert found["total"] == len(found["items"])


NONSENSE = [
    {"cursor": "no-cursor"},
    {"cursor": "WyJuYW1lIiwieCJd"},
    {"sort": "colour"},
    {"limit": 0},
    {"limit": 1001},
    {"min_params": -1},
    {"min_params": 2**63},
    {"library": "keras"},
    {"tag": "no-equals-sign"},
    {"name": "a\0b"},
    {"text": "a\0b"},
    {"tag": "a=\0"},
]


def test_a_query_that_makes_no_sense_is_a_problem_and_never_a_500(each_service: Service) -> None:
    for query in NONSENSE:
        problem = each_service.call("GET", "/v1/models", 422, params=query)
        assert problem["status"] == 422
        assert problem["detail"]


FORGED = [
    '["params","text","mdl_1"]',
    '["params",true,"mdl_1"]',
    '["params",1e400,"mdl_1"]',
    '["params",NaN,"mdl_1"]',
    '["params",99999999999999999999999999,"mdl_1"]',
    '["params",1,"mdl_\\u0000"]',
    '["params",[1],"mdl_1"]',
    '["params",1]',
    "{}",
    "1",
]


def test_a_forged_cursor_is_refused(each_service: Service) -> None:
    for token in FORGED:
        cursor = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        each_service.call("GET", "/v1/models", 422, params={"sort": "params", "cursor": cursor})
    dated = base64.urlsafe_b64encode(b'["created_at","yesterday","mdl_1"]').decode().rstrip("=")
    each_service.call("GET", "/v1/models", 422, params={"sort": "created_at", "cursor": dated})
    for key in (b"NaN", b"-Infinity", b"1e300", b"1", b'"0.7"'):
        forged = base64.urlsafe_b64encode(b'["imagenet_top1",' + key + b',"mdl_1"]').decode().rstrip("=")
        each_service.call("GET", "/v1/models", 422, params={"sort": "imagenet_top1", "cursor": forged})


def test_a_cursor_belongs_to_its_order_and_outlives_its_row(each_service: Service) -> None:
    put_cards(each_service.database)
    for sort in ("name", "created_at", "params"):
        order = {"sort": sort, "limit": 10}
        first = each_service.call("GET", "/v1/models", params=order)
        each_service.call(
            "GET", "/v1/models", 422, params={**order, "descending": True, "cursor": first["next_cursor"]}
        )
        second = each_service.call("GET", "/v1/models", params={**order, "cursor": first["next_cursor"]})
        each_service.call("DELETE", f"/v1/models/{first['items'][-1]['id']}", 204)
        again = each_service.call("GET", "/v1/models", params={**order, "cursor": first["next_cursor"]})
        assert [m["id"] for m in again["items"]] == [m["id"] for m in second["items"]]


def test_a_registered_model_is_unresolved_until_a_worker_has_proved_its_weights(
    each_service: Service, tiny_zoo: TinyZoo
) -> None:
    model = tiny_zoo.good[0]
    answer = each_service.client.post("/v1/models", json=model.request(tags={"team": "forest"}, licence="mit"))
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["Location"] == f"/v1/models/{made['id']}"
    assert (made["state"], made["weights_sha256"], made["feature_dim"]) == ("unresolved", None, None)
    each_service.work()
    proven = each_service.call("GET", answer.headers["Location"])
    assert (proven["state"], proven["error"], proven["feature_dim"]) == ("ready", None, 96)
    assert proven["weights_sha256"] == _sha256(model.path)
    assert proven["card"]["weights"]["sha256"] == proven["weights_sha256"]
    assert proven["card"]["num_classes"] == 7
    assert 300_000 < proven["params"] < 400_000
    assert proven["tags"] == {"team": "forest"}
    assert each_service.call("GET", f"/v1/models/{model.name}") == proven


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_that_do_not_fit_fail_with_the_first_keys_named(each_service: Service, tiny_zoo: TinyZoo) -> None:
    wrong, half, missing = each_service.add_models([tiny_zoo.wrong, tiny_zoo.truncated, tiny_zoo.missing])
    assert {m["state"] for m in (wrong, half, missing)} == {"failed"}
    assert "missing" in wrong["error"]
    assert "conv_stem.weight" in wrong["error"]
    assert "unexpected" in wrong["error"]
    assert wrong["weights_sha256"] is None
    assert "CorruptCheckpoint" in half["error"]
    assert "nowhere.safetensors" in missing["error"]


def test_pinned_weights_that_change_are_an_error(service: Service, tiny_zoo: TinyZoo, tmp_path) -> None:
    model = tiny_zoo.good[0]
    copy = tmp_path / "copy.safetensors"
    shutil.copy(tiny_zoo.good[1].path, copy)
    made = service.call(
        "POST", "/v1/models", 201, json=model.request(weights=f"file:{copy}", sha256=_sha256(model.path))
    )
    service.work()
    failed = service.call("GET", f"/v1/models/{made['id']}")
    assert failed["state"] == "failed"
    assert "HashMismatch" in failed["error"]


CONTRADICTIONS = [
    ({"weights": "https://example.org/model.pth"}, "bad-model-card"),
    ({"weights": "file:relative.pth"}, "bad-model-card"),
    ({"weights": "file:/a\nb"}, "bad-model-card"),
    ({"std": [0, 1, 1]}, "bad-model-card"),
    ({"arch_kwargs": {"x": float("inf")}}, "bad-model-card"),
    ({"name": ""}, "invalid-request"),
    ({"name": "a\0b"}, "invalid-request"),
    ({"tags": {"k" * 101: "v"}}, "invalid-request"),
    ({"tags": {"k": "v" * 301}}, "invalid-request"),
    ({"tags": {"k": "a\0b"}}, "invalid-request"),
    ({"licence": "a\0b"}, "invalid-request"),
    ({"input_size": 0}, "invalid-request"),
    ({"sha256": "abc"}, "invalid-request"),
    ({"unknown": 1}, "invalid-request"),
    ({"imagenet_top1": 76.1}, "invalid-request"),
]


def test_a_card_that_does_not_hold_together_is_refused(each_service: Service, tiny_zoo: TinyZoo) -> None:
    for change, slug in CONTRADICTIONS:
        body = json.dumps({**tiny_zoo.good[0].request(), **change})
        problem = each_service.call(
            "POST", "/v1/models", 422, content=body, headers={"Content-Type": "application/json"}
        )
        assert problem["type"] == f"/problems/{slug}", problem
    assert each_service.call("GET", "/v1/models")["total"] == 0


def test_half_a_surrogate_pair_in_a_name_is_refused(each_service: Service, tiny_zoo: TinyZoo) -> None:
    body = b'{"name": "a\\ud800", "architecture": "test_resnet", "weights": "file:/x"}'
    each_service.call("POST", "/v1/models", 422, content=body, headers={"Content-Type": "application/json"})


def test_a_name_is_taken_once(each_service: Service, tiny_zoo: TinyZoo) -> None:
    body = tiny_zoo.good[0].request()
    each_service.call("POST", "/v1/models", 201, json=body)
    problem = each_service.call("POST", "/v1/models", 409, json=body)
    assert problem["type"] == "/problems/model-exists"
    each_service.call("DELETE", f"/v1/models/{body['name']}", 204)
    assert each_service.call("GET", f"/v1/models/{body['name']}", 404)["type"] == "/problems/not-found"
    each_service.call("POST", "/v1/models", 201, json=body)


def test_import_takes_the_registrys_cards_and_says_how_many(service: Service) -> None:
    accepted = service.client.post("/v1/models/import", json={"source": "timm", "filter": "test_resnet*"})
    assert accepted.status_code == 202
    service.work()
    done = service.call("GET", accepted.headers["Location"])
    assert done["state"] == "done"
    assert done["result"]["matched"] == done["result"]["added"] >= 1
    listed = service.call("GET", "/v1/models", params={"name": "test_resnet*"})
    assert listed["total"] == done["result"]["added"]
    assert {m["state"] for m in listed["items"]} == {"unresolved"}
    again = service.client.post("/v1/models/import", json={"source": "timm", "filter": "test_resnet*"})
    service.work()
    result = service.call("GET", again.headers["Location"])["result"]
    assert (result["added"], result["refreshed"]) == (0, 0)
    service.call("GET", "/v1/models/import/tsk_none", 404)
