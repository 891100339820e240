"""/metrics: what it counts, who may read it, and that nothing a client sends becomes a label."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.core.settings import ServerSettings
from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from tests.helpers.inhabited import bearer
from tests.helpers.service import Service, running, settings_for
from tests.helpers.zoo import TinyZoo

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(service: Service, **headers: str) -> Values:
    answer = service.client.get("/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found: Values, name: str, **labels: str) -> float:
    return found[f"zooscout_{name}", tuple(sorted(labels.items()))]


def test_what_a_service_does_shows(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    service.add_models(tiny_zoo.good[:2])
    dataset = service.sealed()
    service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme"])
    before = scraped(service)
    wanted = 2 * dataset["report"]["splits"]["train"] if "splits" in dataset["report"] else 2 * dataset["n_images"]
    assert value(before, "embeddings_total", source="computed") == wanted
    assert value(before, "embeddings_total", source="store") == 0
    service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme", "h_score"])
    service.call("POST", "/v1/models/import", 202, json={"source": "timm", "filter": "none*"})
    with service.database.write() as session:
        jobs.worker_seen(session, "w", device="cpu")
    after = scraped(service)
    assert value(after, "embeddings_total", source="store") == wanted
    assert value(after, "embeddings_total", source="computed") == wanted
    assert value(after, "queue_tasks") == value(after, "tasks", kind="import", state="queued") == 1
    assert value(after, "queue_oldest_seconds") > 0
    assert value(after, "tasks", kind="embed", state="done") >= 2
    assert value(after, "workers", device="cpu") == 1
    stored = sum(path.stat().st_size for path in service.files("segments"))
    assert value(after, "store_bytes", state="active") == stored
    assert value(after, "database_up") == 1
    rates = {labels for name, labels in after if name == "zooscout_images_per_second"}
    assert rates == {
        (("device", "cpu"), ("model", name), ("precision", "float32")) for name in tiny_zoo.names[:2]
    }  # fmt: skip
    assert value(after, "http_requests_total", method="POST", route="/v1/rankings", status="202") == 2
    assert value(after, "http_request_seconds_count", method="POST", route="/v1/rankings") == 2


def test_a_lease_that_ran_out_is_counted_once(service: Service) -> None:
    with service.database.write() as session:
        jobs.enqueue(session, project_id="default", kind=TaskKind.PLAN, subject_id="rk_1", payload={})
    for owner, seconds in (("a", -1.0), ("b", 60.0)):  # the first one's lease is over at once
        with service.database.write() as session:
            task = jobs.claim(session, owner, lease_seconds=seconds)
            assert task is not None
    assert value(scraped(service), "lease_losses_total") == 1
    with service.database.write() as session:
        jobs.release(session, task)
        assert jobs.claim(session, "c", lease_seconds=60.0) is not None
    assert value(scraped(service), "lease_losses_total") == 1


def test_a_client_cannot_make_series(service: Service) -> None:
    service.client.get("/v1/models/none")
    service.client.request("BREW", "/v1/models")
    service.client.get("/nowhere/0")
    before = scraped(service)
    for n in range(20):
        service.client.get(f"/v1/models/none-{n}")
        service.client.get(f"/nowhere/{n}")
        service.client.request(f"BREW{n}", "/v1/models")
        service.client.get(f"/static/{n}.css")
    new = {labels for name, labels in scraped(service) if name.startswith("zooscout_http_requests")} - {
        labels for name, labels in before if name.startswith("zooscout_http_requests")
    }
    assert {dict(labels)["route"] for labels in new} <= {"/metrics", "(none)"}
    assert len(new) <= 3


def test_who_may_read_them(tmp_path: Path, tiny_zoo: TinyZoo) -> None:
    settings = settings_for(tmp_path / "data", None).model_copy(update={"server": ServerSettings(require_key=True)})
    with running(settings) as service:
        mine, theirs = bearer(service, "mine"), bearer(service, "theirs")
        refused = service.client.get("/metrics", headers={"accept": "text/html"}, follow_redirects=False)
        assert refused.status_code == 401
        assert "zooscout_" not in refused.text
        model = tiny_zoo.good[0]
        service.call("POST", "/v1/models", 201, json=model.request(), headers=mine)
        from tests.helpers.pictures import class_folders, zipped

        dataset = service.call(
            "POST", "/v1/datasets", 202, params={"name": "d"}, content=zipped(class_folders()), headers=mine
        )
        asked = {"dataset": dataset["id"], "models": [model.name], "estimators": ["logme"]}
        service.call("POST", "/v1/rankings", 202, json=asked, headers=mine)
        service.work()
        assert any(name == "zooscout_images_per_second" for name, _ in scraped(service, **mine))
        seen = scraped(service, **theirs)
        assert not any(name == "zooscout_images_per_second" for name, _ in seen)
        assert model.name not in service.client.get("/metrics", headers=theirs).text
        assert value(seen, "tasks", kind="embed", state="done") == 1


def test_without_a_database_it_still_answers(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with service.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE counters RENAME TO elsewhere")
    assert value(scraped(service), "database_up") == 0
