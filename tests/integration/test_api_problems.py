"""What every answer has in common: problems, health, the description, and what the process loads."""

import importlib
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

import service as package
from estimators.catalog import Direction
from estimators.errors import EstimatorError
from service.api.problems import KINDS, kind_of, status_of
from service.core.db import Database
from service.core.errors import ServiceError
from service.core.migrate import upgrade
from service.datasets.errors import DatasetRefused
from service.jobs import repository as jobs
from tests.helpers.service import ROOT, Service
from zoo.errors import ZooError


def test_every_error_of_the_service_has_a_problem() -> None:
    for module in pkgutil.walk_packages(package.__path__, "service."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = set(_below(ServiceError)) | set(_below(ZooError)) | set(_below(EstimatorError))
    refusals = set(_below(DatasetRefused)) | {DatasetRefused}
    assert len(refusals) > 20
    named = {kind for kind in kinds - refusals if kind.__module__.startswith(("service.", "zoo.", "estimators."))}
    assert named == set(KINDS)
    slugs = [kind.slug for kind in KINDS.values()] + [kind.slug for kind in refusals - {DatasetRefused}]
    assert len(slugs) == len(set(slugs))
    for refusal in refusals - {DatasetRefused}:
        found = kind_of(refusal("What is wrong"))
        assert found.status in {413, 415, 422}
        assert found.status == status_of(f"/problems/{found.slug}")


def _below(kind: type) -> list[type]:
    return [found for sub in kind.__subclasses__() for found in (sub, *_below(sub))]


def test_problems_bear_their_media_type_and_their_place(service: Service) -> None:
    answers = [
        service.client.get("/v1/models/nobody"),
        service.client.get("/v1/datasets/nobody"),
        service.client.get("/v1/rankings/nobody"),
        service.client.get("/nowhere"),
        service.client.put("/v1/models"),
        service.client.post("/v1/rankings", json={}),
        service.client.post("/v1/rankings", content=b"{", headers={"Content-Type": "application/json"}),
        service.client.get("/v1/models", params={"limit": "many"}),
        service.client.get("/static/nothing.css"),
    ]
    assert [a.status_code for a in answers] == [404, 404, 404, 404, 405, 422, 422, 422, 404]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert set(problem) == {"type", "title", "status", "detail", "instance", "errors"}
        assert problem["status"] == answer.status_code
        assert problem["type"].startswith("/problems/")
        assert problem["instance"] == answer.request.url.path
        assert problem["detail"]
    assert answers[4].headers["allow"]
    assert answers[5].json()["errors"][0]["at"] == "body/dataset"


def test_a_bug_answers_with_a_reference_and_none_of_its_text(
    make_service: Callable[..., Service], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the secret of the house")

    service = make_service(raise_bugs=False)
    monkeypatch.setattr("service.models.service.list_models", bug)
    answer = service.client.get("/v1/models")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    reference = answer.json()["detail"].rpartition("under ")[2].rstrip(".")
    assert len(reference) == 12
    assert reference in capfd.readouterr().err


def test_liveness_asks_nothing_and_readiness_asks_the_database(each_service: Service) -> None:
    assert each_service.call("GET", "/healthz") == {"status": "ok"}
    ready = each_service.call("GET", "/readyz")
    said = "No worker was seen lately: work waits."
    assert ready == {
        "ready": True, "database": True, "migrated": True, "store": True, "workers": 0, "problems": [said]
    }  # fmt: skip
    assert each_service.call("GET", "/readyz", 503, params={"worker": "required"})["problems"] == [said]
    each_service.call("GET", "/readyz", 422, params={"worker": "perhaps"})
    with each_service.database.write() as session:
        jobs.worker_seen(session, "w", device="cpu")
    ready = each_service.call("GET", "/readyz", params={"worker": "required"})
    assert (ready["workers"], ready["problems"]) == (1, [])
    each_service.work()
    with each_service.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'older'")
    assert each_service.call("GET", "/readyz", 503)["migrated"] is False


def test_no_readiness_without_a_store_that_can_be_written(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.operation.readiness.STORE_SECONDS", 0.0)
    service.call("GET", "/readyz")
    service.settings.upload_root.rename(service.data_dir / "elsewhere")
    service.settings.upload_root.write_bytes(b"not a folder")
    gone = service.call("GET", "/readyz", 503)
    assert (gone["store"], gone["database"]) == (False, True)
    assert str(service.data_dir) not in str(gone)


def test_the_estimators_are_listed_with_what_they_need(service: Service) -> None:
    items = {e["name"]: e for e in service.call("GET", "/v1/estimators")["items"]}
    assert {name for name, e in items.items() if e["default"]} == {"logme", "knn", "ped_logme", "frechet"}
    assert items["leep"]["needs"] == ["source_probs"]
    for item in items.values():
        assert item["title"]
        assert item["summary"]
        assert item["reference"]
        assert item["direction"] in set(Direction)


def test_the_description_is_complete(service: Service) -> None:
    description = service.call("GET", "/openapi.json")
    text = json.dumps(description)
    assert "application/problem+json" in text
    schemas = description["components"]["schemas"]
    for name in ("ModelCreate", "RankingCreate", "ImportRequest"):
        assert schemas[name]["examples"], name
    routes = [
        (method, path, operation)
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
    ]
    assert len(routes) >= 18
    references = set(re.findall(r'"#/components/(\w+)/(\w+)"', text))
    assert references
    for kind, name in references:
        assert name in description["components"][kind], (kind, name)
    assert "HTTPValidationError" not in text
    for method, path, operation in routes:
        assert operation["summary"], (method, path)
        assert operation["tags"], (method, path)
        if path.startswith("/v1/"):
            assert {"401", "403", "422", "429", "500", "503"} <= set(operation["responses"]), (method, path)
            assert ("{" in path) <= ("404" in operation["responses"]), (method, path)
    upload = description["paths"]["/v1/datasets"]["post"]
    assert "application/zip" in upload["requestBody"]["content"]


def test_examples_in_the_description_are_taken_as_they_stand(service: Service) -> None:
    from service.models.schemas import ImportRequest, ModelCreate
    from service.rankings.schemas import RankingCreate

    schemas = service.call("GET", "/openapi.json")["components"]["schemas"]
    for kind in (ModelCreate, RankingCreate, ImportRequest):
        for example in schemas[kind.__name__]["examples"]:
            kind.model_validate(example)


@pytest.mark.parametrize("module", ["service.api.app", "service.client", "service.cli.main"])
def test_what_needs_no_torch_loads_none(module: str, tmp_path) -> None:
    code = (
        f"import sys, {module};"
        "heavy = {'torch', 'timm', 'open_clip', 'torchvision', 'sklearn', 'scipy', 'service.compute'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    if module == "service.cli.main":
        code = code.replace(", 'service.compute'", "")  # the worker's rooms know it; it loads torch when it computes
    if module == "service.api.app":
        code = code.replace("'torch'", "'torch', 'faiss', 'pyarrow', 'numpy'").replace(
            ";heavy",
            ";from starlette.testclient import TestClient; from service.core.settings import Settings;"
            "from pathlib import Path;"
            f"client = TestClient(service.api.app.create_app(Settings(data_dir=Path({str(tmp_path)!r}))),"
            "base_url='http://127.0.0.1');"
            "client.__enter__(); client.get('/v1/estimators'); client.get('/v1/models'); client.get('/');"
            "client.__exit__();heavy",
        )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert found.stdout == "[]\n", found.stderr


def test_an_unmigrated_database_is_brought_up_by_the_app_itself(empty_url: str, tmp_path) -> None:
    from tests.helpers.databases import opened
    from tests.helpers.service import running, settings_for

    url = empty_url if empty_url.startswith("postgresql") else f"sqlite:///{tmp_path / 'fresh.sqlite'}"
    with running(settings_for(tmp_path / "data", url)) as service:
        assert service.call("GET", "/v1/models")["total"] == 0
    with opened(url) as database:
        assert isinstance(database, Database)
        upgrade(database)


@pytest.mark.parametrize("path", ["/", "/docs", "/v1/models", "/v1/models/none", "/static/style.css"])
def test_no_answer_lets_a_browser_run_or_frame_what_is_not_ours(service: Service, path: str) -> None:
    headers = service.client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert ("'unsafe-inline'" in policy) == (path == "/docs")


def test_the_page_of_the_api_loads_nothing_from_elsewhere(service: Service) -> None:
    page = service.client.get("/docs").text
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert loaded
    for address in loaded:
        assert service.client.get(address).status_code == 200, address
