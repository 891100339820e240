"""Outcomes through the API: recorded, superseded, refused, and one's own."""

import pytest
from scipy.stats import binomtest

from service.outcomes.intervals import wilson
from tests.helpers.inhabited import bearer
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo

CSV = {"content-type": "text/csv"}


def test_an_outcome_is_recorded_and_superseded(each_service: Service, tiny_zoo: TinyZoo) -> None:
    on = each_service
    dataset = on.sealed(name="trees")
    [model] = on.add_models(tiny_zoo.good[:1])
    body = {"dataset": "trees", "model": model["id"], "accuracy": 0.75, "n_test": 40, "recipe": "a", "source": "me"}
    first = on.call("POST", "/v1/outcomes", 201, json=body)
    assert (first["added"], first["superseded"], first["unchanged"]) == (1, 0, 0)
    [view] = first["items"]
    assert (view["dataset"], view["dataset_id"]) == ("trees", dataset["id"])
    assert view["fingerprint"] == dataset["fingerprint"]
    assert (view["model"], view["model_id"]) == (model["name"], model["id"])
    assert view["weights_sha256"] == model["weights_sha256"]
    assert view["interval"] == pytest.approx(list(wilson(0.75, 40)))
    assert on.call("GET", f"/v1/outcomes/{view['id']}") == view

    again = on.call("POST", "/v1/outcomes", 201, json=body)
    assert (again["added"], again["unchanged"]) == (0, 1)
    assert again["items"] == [view]
    # By its id, the dataset is the same one.
    better = on.call("POST", "/v1/outcomes", 201, json=body | {"dataset": dataset["id"], "accuracy": 0.8})
    assert (better["added"], better["superseded"]) == (1, 1)
    assert better["items"][0]["version"] == 2
    on.call("POST", "/v1/outcomes", 201, json=body | {"recipe": "b", "accuracy": 0.5})

    def listed(**params: object) -> list[tuple[str, int, float]]:
        items = on.call("GET", "/v1/outcomes", params=params)["items"]
        return [(item["recipe"], item["version"], item["accuracy"]) for item in items]

    assert listed() == [("b", 1, 0.5), ("a", 2, 0.8)]
    assert listed(history=True) == [("b", 1, 0.5), ("a", 2, 0.8), ("a", 1, 0.75)]
    assert listed(dataset=dataset["fingerprint"], recipe="a") == [("a", 2, 0.8)]
    assert listed(model="nothing") == []
    page = on.call("GET", "/v1/outcomes", params={"limit": 1, "history": True})
    rest = on.call("GET", "/v1/outcomes", params={"history": True, "cursor": page["next_cursor"]})
    assert [item["recipe"] for item in page["items"] + rest["items"]] == ["b", "a", "a"]

    other = bearer(on, "other")
    assert on.call("GET", "/v1/outcomes", headers=other)["items"] == []
    on.call("GET", f"/v1/outcomes/{view['id']}", 404, headers=other)
    theirs = on.call("POST", "/v1/outcomes", 201, json=body, headers=other)
    assert theirs["unknown_datasets"] == ["trees"]
    assert theirs["items"][0]["dataset_id"] is None

    on.call("DELETE", f"/v1/datasets/{dataset['id']}", 204)
    kept = on.call("GET", f"/v1/outcomes/{view['id']}")
    assert (kept["dataset"], kept["dataset_id"], kept["fingerprint"]) == ("trees", None, dataset["fingerprint"])


def test_a_csv_is_recorded_whole_or_not_at_all(service: Service) -> None:
    lines = ["Dataset,model,accuracy,n_test,benchmark", "pets,a,0.9,100,x", "pets,b,0.8,,x", "pets,a,0.91,100,x"]

    def post(*rows: str, status: int = 201) -> dict[str, object]:
        return service.call("POST", "/v1/outcomes", status, content="\n".join(rows).encode(), headers=CSV)

    problem = post(*lines, "pets,c,91", status=422)
    assert problem["type"] == "/problems/bad-outcomes"
    assert "Line 5" in str(problem["detail"])
    assert "0.91" in str(problem["detail"])
    assert service.call("GET", "/v1/outcomes")["items"] == []
    made = post(*lines)
    assert (made["added"], made["superseded"], made["unchanged"]) == (3, 1, 0)
    again = post(*lines)
    assert (again["added"], again["superseded"], again["unchanged"]) == (0, 0, 3)
    assert made["unknown_models"] == ["a", "b"]
    holds = {item["model"]: item["accuracy"] for item in service.call("GET", "/v1/outcomes")["items"]}
    assert holds == {"a": 0.91, "b": 0.8}
    for rows, word in (
        (["model,accuracy", "a,0.1"], "dataset"),
        (["dataset,model,accuracy"], "no rows"),
        (["dataset,model,accuracy", "d,m,nan"], "Line 2"),
        (["dataset,model,accuracy", "d,,0.5"], "model"),
        (["dataset,model,accuracy", 'd,"m,0.5'], "cannot be read"),
        (["dataset,model,accuracy,n_test", "d,m,0.5,0"], "n_test"),
        (["dataset,model,accuracy", "d,m,0,913"], "more cells than the header"),
        (["dataset,model,accuracy,recepie", "d,m,0.5,a"], "recipe"),
        (["dataset,model,accuracy,accuracy", "d,m,0.5,0.6"], "twice"),
    ):
        assert word in str(post(*rows, status=422)["detail"])
    bad = service.client.post("/v1/outcomes", content=b"\xff\xfe", headers=CSV)
    assert bad.status_code == 422
    assert "UTF-8" in bad.json()["detail"]


def test_a_percentage_is_refused_with_what_it_should_be(service: Service) -> None:
    problem = service.call("POST", "/v1/outcomes", 422, json={"dataset": "d", "model": "m", "accuracy": 91.3})
    assert "0.913" in problem["detail"]
    service.call("POST", "/v1/outcomes", 422, content=b"{", headers={"content-type": "application/json"})
    service.call("POST", "/v1/outcomes", 422, json={"dataset": "d", "model": "m", "accuracy": True})


def test_an_outcome_that_came_before_its_dataset_was_sealed_is_superseded_too(service: Service) -> None:
    service.upload(zipped(class_folders(each=12)))
    body = {"dataset": "trees", "model": "m", "accuracy": 0.8, "recipe": "r"}
    [early] = service.call("POST", "/v1/outcomes", 201, json=body)["items"]
    assert early["fingerprint"] is None
    service.work()
    later = service.call("POST", "/v1/outcomes", 201, json=body | {"accuracy": 0.7})
    assert (later["superseded"], later["items"][0]["version"]) == (1, 2)
    [held] = service.call("GET", "/v1/outcomes")["items"]
    assert held["accuracy"] == 0.7


@pytest.mark.parametrize(("right", "n"), [(0, 10), (10, 10), (5, 10), (360, 400)])
def test_the_interval_is_wilsons(right: int, n: int) -> None:
    independent = binomtest(right, n).proportion_ci(0.9, method="wilson")
    assert wilson(right / n, n) == pytest.approx((independent.low, independent.high), abs=1e-12)
