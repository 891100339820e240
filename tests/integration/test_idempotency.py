"""Requests that are sent again under one Idempotency-Key, on both databases."""

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from sqlalchemy import func, select, update

from service.core.clock import utc_now
from service.core.db import Database
from service.datasets.tables import DatasetRow
from service.idempotency.tables import AnswerRow
from service.jobs import repository as jobs
from service.jobs.tables import TaskRow
from service.keys.tables import DEFAULT_PROJECT, KeyRow
from service.models.tables import ModelRow
from service.outcomes.tables import OutcomeRow
from service.prescores.tables import PrescoreRow
from service.rankings.tables import RankingRow
from service.scoring.tables import ScoringRow
from service.webhooks.tables import DeliveryRow
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo

COUNTED = (TaskRow, ModelRow, DatasetRow, RankingRow, PrescoreRow, ScoringRow, OutcomeRow, DeliveryRow, KeyRow)
SHOW_A_SECRET = {"/v1/keys", "/v1/webhooks"}  # kept nowhere, so that they cannot be answered again


def counts(database: Database) -> dict[str, int]:
    with database.read() as session:
        found = {t.__tablename__: session.scalar(select(func.count()).select_from(t)) or 0 for t in COUNTED}
        held = select(func.count()).where(ModelRow.quarantined_at.is_not(None))
        waiting = select(func.count()).where(DeliveryRow.state == "queued")
        return found | {"held": session.scalar(held) or 0, "waiting": session.scalar(waiting) or 0}


def arrays() -> bytes:
    rng = np.random.default_rng(0)
    file = BytesIO()
    np.savez(file, features=rng.normal(size=(40, 4)).astype(np.float32), labels=np.arange(40) % 2)
    return file.getvalue()


def posts(service: Service, zoo: TinyZoo) -> dict[str, dict[str, Any]]:
    """One request for every POST of the API."""
    dataset = service.sealed()["id"]
    service.add_models(zoo.good[:1])
    model = zoo.names[0]
    webhook = service.call("POST", "/v1/webhooks", 201, json={"url": "https://1.1.1.1/hook"})["id"]
    delivery = service.call("POST", f"/v1/webhooks/{webhook}/ping", 202)["id"]
    ranking = service.call("POST", "/v1/rankings", 202, json={"dataset": dataset, "models": [model]})["id"]
    with service.database.write() as session:
        session.execute(update(DeliveryRow).values(state="failed"))
        session.execute(update(ModelRow).values(quarantined_at=utc_now(), quarantine_reason="it failed"))
    return {
        f"/v1/rankings/{ranking}/cancel": {},
        f"/v1/models/{model}/release": {},
        f"/v1/webhooks/{webhook}/ping": {},
        f"/v1/webhooks/{webhook}/deliveries/{delivery}/redeliver": {},
        "/v1/outcomes": {"json": {"dataset": dataset, "model": model, "accuracy": 0.9}},
        "/v1/models": {"json": zoo.good[1].request()},
        "/v1/models/import": {"json": {"source": "timm", "filter": "resnet18*"}},
        "/v1/datasets": {"content": zipped(class_folders(seed=5)), "params": {"name": "more"}},
        f"/v1/datasets/{dataset}/versions": {"json": {"remove": [], "relabel": {}, "add": dataset}},
        f"/v1/datasets/{dataset}/inspections": {"json": {"model": model}},
        "/v1/rankings": {"json": {"dataset": dataset, "models": [model]}},
        f"/v1/datasets/{dataset}/signature": {},
        "/v1/prescore": {"json": {"new": True}},
        "/v1/finetunings": {"json": {"dataset": dataset, "models": [model]}},
        "/v1/scores": {"content": arrays(), "params": {"estimators": "logme"}},
    }


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_every_post_is_answered_again_and_done_once(each_service: Service, tiny_zoo: TinyZoo) -> None:
    wanted = posts(each_service, tiny_zoo)
    described = each_service.call("GET", "/openapi.json")["paths"]
    patterns = {path for path, methods in described.items() if "post" in methods}
    shapes = {pattern: re.compile(re.sub(r"{\w+}", "[^/]+", pattern)) for pattern in patterns}
    asked = {pattern for pattern, shape in shapes.items() if any(shape.fullmatch(path) for path in wanted)}
    assert patterns - asked == SHOW_A_SECRET
    for path in patterns:
        assert "idempotency-key" in {p["name"].lower() for p in described[path]["post"]["parameters"]}, path
    for n, (path, options) in enumerate(wanted.items()):
        before = counts(each_service.database)
        first = each_service.client.post(path, headers=keyed(f"k{n}"), **options)
        assert first.status_code in {200, 201, 202}, (path, first.text)
        assert "idempotency-replayed" not in first.headers
        done = counts(each_service.database)
        assert done != before, path
        again = each_service.client.post(path, headers=keyed(f"k{n}"), **options)
        assert again.headers["idempotency-replayed"] == "true"
        assert (again.status_code, again.content) == (first.status_code, first.content), path
        assert again.headers["location"] == first.headers["location"]
        assert again.headers["content-type"] == first.headers["content-type"]
        assert counts(each_service.database) == done, path
    uploads = {path.name for path in each_service.files("uploads")}
    with each_service.database.read() as session:
        read = {source.rpartition("/")[2] for source in jobs.open_sources(session) if "/" in source}
    assert uploads == read  # what was sent again is not left lying


def test_a_version_is_answered_again_when_its_parent_is_gone(each_service: Service) -> None:
    parent = each_service.sealed()["id"]
    body = {"relabel": {}, "remove": [], "add": parent}
    made = each_service.client.post(f"/v1/datasets/{parent}/versions", json=body, headers=keyed("v"))
    assert made.status_code == 202, made.text
    each_service.work()
    each_service.call("DELETE", f"/v1/datasets/{parent}", 204)
    again = each_service.client.post(f"/v1/datasets/{parent}/versions", json=body, headers=keyed("v"))
    assert (again.status_code, again.content) == (202, made.content)


def test_the_same_key_with_another_request_is_refused(each_service: Service) -> None:
    archive = zipped(class_folders())
    each_service.call("POST", "/v1/datasets", 202, params={"name": "a"}, content=archive, headers=keyed("one"))
    before = counts(each_service.database)
    others: list[tuple[str, dict[str, Any]]] = [
        ("/v1/datasets", {"params": {"name": "b"}, "content": archive}),
        ("/v1/datasets", {"params": {"name": "a"}, "content": zipped(class_folders(seed=9))}),
        ("/v1/models/import", {"json": {"source": "timm", "filter": "*"}}),
    ]
    for path, options in others:
        refused = each_service.client.post(path, headers=keyed("one"), **options)
        assert refused.status_code == 422, refused.text
        assert refused.json()["type"] == "/problems/idempotency-key-reused"
    assert counts(each_service.database) == before


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
def test_a_key_that_cannot_be_kept_is_refused(service: Service, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    answer = service.client.post("/v1/models/import", json={"source": "timm"}, headers=headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["at"] == "header/idempotency-key"
    assert service.tasks() == []


def test_what_was_refused_leaves_its_key_free(each_service: Service, tiny_zoo: TinyZoo) -> None:
    body = {"dataset": "later", "models": tiny_zoo.names[:1]}
    each_service.call("POST", "/v1/rankings", 404, json=body, headers=keyed("r"))
    each_service.add_models(tiny_zoo.good[:1])
    each_service.sealed(name="later")
    made = each_service.call("POST", "/v1/rankings", 202, json=body, headers=keyed("r"))
    assert each_service.call("POST", "/v1/rankings", 202, json=body, headers=keyed("r")) == made


def test_requests_that_arrive_at_once_are_done_once(each_service: Service) -> None:
    body = {"source": "timm", "filter": "resnet18*"}
    gate = threading.Barrier(8)

    def send(_: int) -> httpx.Response:
        gate.wait()
        return each_service.client.post("/v1/models/import", json=body, headers=keyed("same"))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert [a.status_code for a in answers] == [202] * 8, [a.text for a in answers]
    assert len({a.content for a in answers}) == 1
    assert sorted("idempotency-replayed" in a.headers for a in answers) == [False] + [True] * 7
    assert len(each_service.tasks(kind="import")) == 1


def test_one_that_waits_for_another_which_fails_does_the_work(each_service: Service) -> None:
    """The first holds the key in an open transaction; when that is rolled back, the second goes on."""
    from service.idempotency.service import Repeatable, begin

    started, release = threading.Event(), threading.Event()
    request = Repeatable(DEFAULT_PROJECT, "held", "0" * 64, 3600.0)

    def hold() -> None:
        with pytest.raises(RuntimeError), each_service.database.write() as session:  # noqa: PT012
            begin(session, request)
            session.flush()
            started.set()
            release.wait(20)
            raise RuntimeError("the process that did it died")

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(hold)
        assert started.wait(20)
        second = pool.submit(
            each_service.client.post, "/v1/models/import", json={"source": "timm"}, headers=keyed("held")
        )
        assert not second.done()
        release.set()
        holder.result()
        answer = second.result()
    assert answer.status_code == 202, answer.text
    assert "idempotency-replayed" not in answer.headers
    assert len(each_service.tasks(kind="import")) == 1


def test_the_secret_of_a_new_key_is_not_kept(each_service: Service) -> None:
    body = {"name": "ci", "scope": "read"}
    made = each_service.call("POST", "/v1/keys", 201, json=body, headers=keyed("k"))
    again = each_service.call("POST", "/v1/keys", 409, json=body, headers=keyed("k"))
    assert again["type"] == "/problems/shown-once"
    assert f"/v1/keys/{made['id']}" in again["detail"]
    with each_service.database.read() as session:
        rows = [str(tuple(row)) for row in session.execute(select(AnswerRow.__table__))]
    assert len(rows) == 1
    secret = made["key"].removeprefix(f"zs_{made['id'].removeprefix('key_')}_")  # it may hold underlines itself
    assert len(secret) == 43
    assert secret not in rows[0]
    assert len(each_service.call("GET", "/v1/keys")["items"]) == 1


def age(service: Service, by: timedelta) -> None:
    with service.database.write() as session:
        session.execute(update(AnswerRow).values(created_at=utc_now() - by))


def kept(service: Service) -> list[str]:
    with service.database.read() as session:
        return list(session.scalars(select(AnswerRow.key).order_by(AnswerRow.key)))


def test_keys_are_kept_a_day_and_then_collected(each_service: Service) -> None:
    body = {"name": "ci", "scope": "read"}
    each_service.call("POST", "/v1/keys", 201, json=body, headers=keyed("old"))
    age(each_service, timedelta(hours=23))
    each_service.call("POST", "/v1/keys", 409, json=body, headers=keyed("old"))
    age(each_service, timedelta(hours=25))
    each_service.call("POST", "/v1/keys", 201, json=body, headers=keyed("old"))  # forgotten, whether collected or not
    age(each_service, timedelta(hours=49))
    each_service.call("POST", "/v1/keys", 201, json=body, headers=keyed("new"))  # asks for a collection
    assert kept(each_service) == ["new", "old"]
    assert [kind for kind, _, _ in each_service.tasks()] == ["collect"]
    each_service.work()
    assert kept(each_service) == ["new"]


def test_projects_do_not_share_keys(make_service: Callable[..., Service]) -> None:
    from service.keys import repository, service
    from service.keys.schemas import KeyCreate, Scope

    started = make_service()
    tokens = []
    with started.database.write() as session:
        for name in ("red", "blue"):
            owner = repository.project_named(session, name)
            tokens.append(service.create(session, owner.id, KeyCreate(name="t", scope=Scope.WRITE)).key)
    archive = zipped(class_folders())
    made = [
        started.call(
            "POST",
            "/v1/datasets",
            202,
            params={"name": "a"},
            content=archive,
            headers=keyed("same") | {"Authorization": f"Bearer {token}"},
        )["id"]
        for token in tokens
    ]
    assert made[0] != made[1]
