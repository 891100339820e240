"""Requests that meet in the same moment, on both databases."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from service.jobs.tables import TaskRow
from service.worker.loop import run
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo


def at_once(n: int, act: Any) -> list[Any]:
    with ThreadPoolExecutor(n) as pool:
        return [future.result() for future in [pool.submit(act, i) for i in range(n)]]


def test_one_archive_sent_at_once_by_many_is_one_dataset(each_service: Service) -> None:
    archive = zipped(class_folders(each=3))
    answers = at_once(6, lambda i: each_service.client.post("/v1/datasets", params={"name": f"n{i}"}, content=archive))
    assert sorted(a.status_code for a in answers) == [200] * 5 + [202]
    assert len({a.json()["id"] for a in answers}) == 1
    each_service.work()
    assert each_service.files("uploads") == []
    assert each_service.call("GET", f"/v1/datasets/{answers[0].json()['id']}")["state"] == "sealed"


def test_one_name_registered_at_once_by_many_is_one_model(each_service: Service, tiny_zoo: TinyZoo) -> None:
    body = tiny_zoo.good[0].request()
    answers = at_once(6, lambda _: each_service.client.post("/v1/models", json=body))
    assert sorted(a.status_code for a in answers) == [201] + [409] * 5, [a.text for a in answers]
    assert {a.json()["type"] for a in answers if a.status_code == 409} == {"/problems/model-exists"}
    assert each_service.call("GET", "/v1/models")["total"] == 1


def test_a_model_removed_while_it_is_asked_for_is_a_problem_and_never_a_500(
    each_service: Service, tiny_zoo: TinyZoo
) -> None:
    dataset = each_service.sealed()
    for _ in range(5):
        model = each_service.call("POST", "/v1/models", 201, json=tiny_zoo.good[0].request())
        body = {"dataset": dataset["id"], "models": [model["id"]]}
        ranked, removed = at_once(
            2,
            lambda i, body=body, ident=model["id"]: (
                each_service.client.post("/v1/rankings", json=body)
                if i == 0
                else each_service.client.delete(f"/v1/models/{ident}")
            ),
        )
        assert ranked.status_code in {202, 409, 422}, ranked.text
        assert removed.status_code in {204, 409}, removed.text
        if ranked.status_code == 202:
            each_service.call("DELETE", f"/v1/rankings/{ranked.json()['id']}", 204)
        if removed.status_code == 409:
            each_service.call("DELETE", f"/v1/models/{model['id']}", 204)


def test_a_dataset_removed_while_it_is_asked_for_is_a_problem_and_never_a_500(
    each_service: Service, tiny_zoo: TinyZoo
) -> None:
    each_service.call("POST", "/v1/models", 201, json=tiny_zoo.good[0].request())
    for n in range(4):
        dataset = each_service.sealed(zipped(class_folders(each=2, seed=n)), name=f"d{n}")
        body = {"dataset": dataset["id"], "models": tiny_zoo.names[:1]}
        ranked, removed = at_once(
            2,
            lambda i, body=body, ident=dataset["id"]: (
                each_service.client.post("/v1/rankings", json=body)
                if i == 0
                else each_service.client.delete(f"/v1/datasets/{ident}")
            ),
        )
        assert removed.status_code == 204, removed.text
        assert ranked.status_code in {202, 404, 409}, ranked.text
        left = each_service.call("GET", "/v1/rankings")["items"]
        assert [r for r in left if r["dataset"]["id"] == dataset["id"]] == []


def test_two_workers_that_find_the_same_score_at_once_both_end_well(
    each_service: Service, tiny_zoo: TinyZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.rankings import results

    service = each_service
    service.add_models(tiny_zoo.good[:1])
    body = {"dataset": service.sealed()["id"], "models": tiny_zoo.names[:1]}
    made = [service.call("POST", "/v1/rankings", 202, json=body)["id"] for _ in range(2)]
    # Both are planned before either has computed what the other needs too.
    run(service.worker, threading.Event(), finished=lambda: len(service.tasks(kind="embed")) == 2)
    record = results.scoring.record

    def slowly(session: Session, *given: Any, **keys: Any) -> None:
        record(session, *given, **keys)
        session.flush()
        time.sleep(1.0)  # the other worker reaches this place before the first commits

    monkeypatch.setattr(results.scoring, "record", slowly)
    others = [replace(service.worker, worker_id=f"host:{n}:x") for n in range(2)]
    at_once(
        2, lambda n: run(others[n], threading.Event(), subjects=[made[n]], finished=lambda: ended(service, made[n]))
    )
    views = [service.call("GET", f"/v1/rankings/{ident}") for ident in made]
    assert [view["state"] for view in views] == ["done", "done"]
    assert [e["error"] for view in views for e in view["entries"]] == [None, None]
    assert views[0]["entries"] == views[1]["entries"]
    with service.database.read() as session:
        attempts = list(session.scalars(select(TaskRow.attempts).where(TaskRow.kind == "embed")))
    assert attempts == [1, 1]


def ended(service: Service, ranking: str) -> bool:
    return service.call("GET", f"/v1/rankings/{ranking}")["state"] in {"done", "failed"}
