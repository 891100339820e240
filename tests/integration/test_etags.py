"""What a client has is not sent again; what it has not seen is not changed."""

from typing import Any

import pytest

from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo


def tag(service: Service, path: str) -> str:
    answer = service.client.get(path)
    assert answer.status_code == 200, answer.text
    return answer.headers["etag"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/estimators", "/v1/datasets", "/v1/rankings"])
def test_lists_are_not_sent_again_while_they_are_the_same(service: Service, path: str) -> None:
    first = service.client.get(path)
    known = first.headers["etag"]
    for header in (known, f"W/{known}", f'"other", {known}', "*"):
        again = service.client.get(path, headers={"If-None-Match": header})
        assert (again.status_code, again.content) == (304, b""), header
        assert again.headers["etag"] == known
        assert "content-type" not in again.headers
        assert again.headers["x-content-type-options"] == "nosniff"
    other = service.client.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


def test_a_tag_changes_with_what_it_stands_for(service: Service, tiny_zoo: TinyZoo) -> None:
    before = tag(service, "/v1/models")
    service.call("POST", "/v1/models", 201, json=tiny_zoo.good[0].request())
    assert tag(service, "/v1/models") != before
    dataset = service.upload(zipped(class_folders()))["id"]
    checking = tag(service, f"/v1/datasets/{dataset}")
    service.work()
    assert tag(service, f"/v1/datasets/{dataset}") != checking
    assert "etag" not in service.client.get("/v1/models/nobody").headers


def test_what_has_changed_since_it_was_looked_at_is_not_removed(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    model = service.call("POST", "/v1/models", 201, json=tiny_zoo.good[0].request())["id"]
    dataset = service.upload(zipped(class_folders()))["id"]
    paths = {"model": f"/v1/models/{model}", "dataset": f"/v1/datasets/{dataset}"}
    seen = {what: tag(service, path) for what, path in paths.items()}
    service.work()
    body = {"dataset": dataset, "models": [model]}
    paths["ranking"] = f"/v1/rankings/{service.call('POST', '/v1/rankings', 202, json=body)['id']}"
    seen["ranking"] = tag(service, paths["ranking"])
    service.work()
    for what in ("ranking", "dataset", "model"):
        path = paths[what]
        refused = service.call("DELETE", path, 412, headers={"If-Match": seen[what]})
        assert refused["type"] == "/problems/precondition-failed"
        now = tag(service, path)
        assert now in refused["detail"]
        service.call("DELETE", path, 204, headers={"If-Match": now})
        service.call("DELETE", path, 412, headers={"If-Match": now})  # it is gone
        service.call("DELETE", path, 404)


def test_the_reference_set_is_not_replaced_unseen(each_service: Service) -> None:
    first, second = (each_service.sealed(zipped(class_folders(seed=n)), name=f"d{n}")["id"] for n in range(2))

    def put(dataset: str, status: int, **headers: str) -> Any:
        return each_service.call("PUT", "/v1/reference", status, json={"dataset": dataset}, headers=headers)

    put(first, 412, **{"If-Match": "*"})  # there is none yet
    put(first, 200)
    seen = tag(each_service, "/v1/reference")
    put(second, 200, **{"If-Match": seen})
    put(first, 412, **{"If-Match": seen})
    each_service.call("DELETE", "/v1/reference", 412, headers={"If-Match": seen})
    assert each_service.call("GET", "/v1/reference")["dataset"] == second
    put(first, 200, **{"If-Match": "*"})
