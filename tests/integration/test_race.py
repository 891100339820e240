"""Rankings with a budget over HTTP: rungs, partial answers, what is dropped and why."""

from typing import Any

import pytest

from service.rankings.display import notes
from service.rankings.schemas import RankingView
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo

EACH = 130  # of three classes: 390 images, in rungs of 96, 192 and all


@pytest.fixture(scope="module")
def archive() -> bytes:
    return zipped(class_folders(each=EACH, seed=9))


def raced(service: Service, zoo: TinyZoo, archive: bytes, budget: str, *, crops: tuple[int, ...]) -> dict[str, Any]:
    made = [model.request(name=f"{model.name}.{crop}", crop_pct=crop / 100) for crop in crops for model in zoo.good]
    ids = [service.call("POST", "/v1/models", 201, json=request)["id"] for request in made]
    service.work(subjects=ids)
    dataset = service.sealed(archive)
    return service.ranked(dataset["id"], ids, budget=budget)


def test_candidates_race_over_nested_samples(service: Service, tiny_zoo: TinyZoo, archive: bytes) -> None:
    view = raced(service, tiny_zoo, archive, "100000img", crops=(100, 70))
    race = view["race"]
    assert view["state"] == "done"
    assert race["images"] == 3 * EACH
    assert race["ended"] in {"decided", "all images"}
    assert [rung["sample"] for rung in race["rungs"]] == [96, 192, 390][: len(race["rungs"])]
    assert race["rungs"][0]["dropped"] == 0
    for earlier, later in zip(race["rungs"], race["rungs"][1:], strict=False):
        assert later["candidates"] == earlier["left"]
    embedded = sum(e["sample"] for e in view["entries"])
    assert view["progress"]["images_embedded"] == race["embedded_at_most"] == embedded  # none of them twice
    samples = [entry["sample"] for entry in view["entries"]]
    assert samples == sorted(samples, reverse=True)
    assert [entry["rank"] for entry in view["entries"]] == [1, 2, 3, 4, 5, 6]
    for entry in view["entries"]:
        assert entry["scores"]["logme"]["value"] is not None
        assert (entry["dropped"] is None) == (entry["chance"] > 0.05 or entry["sample"] == 390)
    answer = service.call("GET", f"/v1/datasets/{view['dataset']['id']}/recommendations")
    ahead = {e["model"] for e in view["entries"] if e["sample"] == race["sample"]}
    assert {e["model"] for e in answer["entries"] if e["evidence"]} == ahead

    full = service.ranked(view["dataset"]["id"], [e["model_id"] for e in view["entries"]])
    if race["ended"] == "all images":
        whole = {e["model"]: e["scores"]["logme"]["value"] for e in full["entries"]}
        assert all(whole[e["model"]] == e["scores"]["logme"]["value"] for e in view["entries"] if e["sample"] == 390)
    assert full["progress"]["images_embedded"] == 6 * 390 - embedded


def test_a_budget_of_images_is_kept(service: Service, tiny_zoo: TinyZoo, archive: bytes) -> None:
    view = raced(service, tiny_zoo, archive, "450img", crops=(100,))
    assert view["progress"]["images_embedded"] <= 450
    assert view["race"]["ended"] == "budget"
    assert [rung["sample"] for rung in view["race"]["rungs"]] == [96, 150]
    assert "the budget is used up" in " ".join(notes(RankingView.model_validate(view)))
    tight = service.ranked(view["dataset"]["id"], [e["model_id"] for e in view["entries"]], budget="50img")
    assert [e["state"] for e in tight["entries"]].count("failed") == 1
    assert any("budget ends before" in (e["error"] or "") for e in tight["entries"])


def test_a_model_with_a_record_is_tried_before_a_cheaper_one_without(
    service: Service, tiny_zoo: TinyZoo, archive: bytes
) -> None:
    view = raced(service, tiny_zoo, archive, "50img", crops=(100,))
    (late,) = [e for e in view["entries"] if e["state"] == "failed"]
    for seed in (1, 2):
        other = service.sealed(zipped(class_folders(each=8, seed=seed)))["id"]
        for entry in view["entries"]:
            body = {"dataset": other, "model": entry["model"], "accuracy": 0.95 if entry is late else 0.3, "n_test": 90}
            assert service.client.post("/v1/outcomes", json=body).status_code == 201
    again = service.ranked(view["dataset"]["id"], [e["model_id"] for e in view["entries"]], budget="50img")
    states = {e["model"]: e["state"] for e in again["entries"]}
    assert states[late["model"]] == "done"
    assert sorted(states.values()) == ["done", "done", "failed"]


def test_every_rung_is_served_while_the_next_runs(service: Service, tiny_zoo: TinyZoo, archive: bytes) -> None:
    dataset = service.sealed(archive)["id"]
    service.add_models(tiny_zoo.good)
    made = service.call(
        "POST", "/v1/rankings", 202, json={"dataset": dataset, "models": tiny_zoo.names, "budget": "10m"}
    )
    assert made["race"] == {
        "budget": "10m", "images": None, "sample": None, "embedded_at_most": 0, "rungs": [], "ended": None,
    }  # fmt: skip
    seen = []

    def look() -> bool:
        view = service.call("GET", f"/v1/rankings/{made['id']}")
        if view["race"]["rungs"] and view["race"]["rungs"][-1]["sample"] == 192 and view["state"] == "running":
            seen.append({e["sample"]: e["scores"] for e in view["entries"]})
        return view["state"] in {"done", "failed"}

    import threading

    from service.worker.loop import run

    run(service.worker, threading.Event(), finished=look)
    assert any("logme" in scores for view in seen for sample, scores in view.items() if sample == 96)


def test_time_that_is_over_ends_a_race_with_what_there_is(service: Service, tiny_zoo: TinyZoo, archive: bytes) -> None:
    from sqlalchemy import select

    from service.rankings.tables import RankingRow

    service.add_models(tiny_zoo.good)
    body = {"dataset": service.sealed(archive)["id"], "models": tiny_zoo.names, "budget": "1h"}
    made = service.call("POST", "/v1/rankings", 202, json=body)

    def first_rung_over() -> bool:
        with service.database.write() as session:
            row = session.scalars(select(RankingRow)).one()
            history = (row.race or {}).get("history", [])
            if len(history) == 2:
                row.race = dict(row.race or {}) | {"deadline": 1.0}
                return True
        return False

    import threading

    from service.worker.loop import run

    run(service.worker, threading.Event(), finished=first_rung_over)
    service.work()
    view = service.call("GET", f"/v1/rankings/{made['id']}")
    assert (view["state"], view["race"]["ended"]) == ("done", "budget")
    assert {entry["sample"] for entry in view["entries"]} <= {96, 192}
    assert all(entry["scores"]["logme"]["value"] is not None for entry in view["entries"])
