"""Prescores: exactly the new pairs, cheapest first, through a kill, and what they change in recommendations."""

import json
import signal
from pathlib import Path
from typing import Any

from service.core.settings import PrescoreSettings
from service.worker.schedule import PrescoreSchedule
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, process, settings_for, wait_until
from tests.helpers.zoo import TinyZoo

N_DATASETS = 8


def requests(zoo: TinyZoo) -> list[dict[str, Any]]:
    """Six models: the same weights under another crop are another extractor."""
    return [
        model.request(name=f"{model.name}.crop{crop}", crop_pct=crop / 100) for crop in (100, 80) for model in zoo.good
    ]


def add(service: Service, wanted: list[dict[str, Any]]) -> list[str]:
    made = [service.call("POST", "/v1/models", 201, json=request) for request in wanted]
    service.work(subjects=[model["id"] for model in made])
    return [model["name"] for model in made]


def datasets(service: Service, n: int) -> list[str]:
    made = [
        service.upload(zipped(class_folders(each=5 + k % 2, seed=40 + k)), name=f"trees {k}")["id"] for k in range(n)
    ]
    service.work(subjects=made)
    return made


def prescored(service: Service, **request: Any) -> dict[str, Any]:
    made = service.call("POST", "/v1/prescore", 202, json=request)
    service.work()
    return service.call("GET", f"/v1/prescore/{made['id']}")


def pairs(service: Service, ident: str) -> list[dict[str, Any]]:
    return service.call("GET", f"/v1/prescore/{ident}/pairs", params={"limit": 1000})["items"]


def top(service: Service, dataset: str) -> list[str]:
    found = service.call("GET", f"/v1/datasets/{dataset}/recommendations")
    return [entry["model"] for entry in found["entries"] if entry["rank"] is not None][:3]


def test_new_models_are_scored_on_every_dataset_once_and_what_changed_is_told(
    service: Service, tiny_zoo: TinyZoo
) -> None:
    hook = service.call("POST", "/v1/webhooks", 201, json={"url": "https://1.1.1.1/h"})["id"]
    sets = datasets(service, N_DATASETS)
    wanted = requests(tiny_zoo)
    old = add(service, wanted[:4])
    first = prescored(service)
    assert first["pairs"] == {"waiting": 0, "running": 0, "done": 4 * N_DATASETS, "failed": 0, "skipped": 0}
    before = {dataset: top(service, dataset) for dataset in sets}
    heard = len(service.call("GET", f"/v1/webhooks/{hook}/deliveries", params={"limit": 1000})["items"])

    new = add(service, wanted[4:])
    found = prescored(service, new=True)
    assert found["state"] == "done"
    listed = pairs(service, found["id"])
    assert {(pair["dataset_id"], pair["model"]) for pair in listed} == {(d, m) for d in sets for m in new}
    assert len(listed) == 16
    assert {pair["state"] for pair in listed} == {"done"}
    assert [p["images"] for p in listed] == sorted(p["images"] for p in listed)
    assert found["images_to_embed"] == sum(pair["images"] for pair in listed)

    after = {dataset: top(service, dataset) for dataset in sets}
    changed = {dataset for dataset in sets if before[dataset] != after[dataset]}
    assert 0 < len(changed) < N_DATASETS  # else neither a change nor its absence is tested
    items = service.call("GET", "/v1/changes", params={"prescore": found["id"]})["items"]
    assert {item["dataset_id"]: (item["before"], item["after"]) for item in items} == {
        dataset: (before[dataset], after[dataset]) for dataset in changed
    }
    for item in items:
        assert set(item["entered"]) <= set(new)
        assert set(item["left"]) <= set(old)
        view = service.call("GET", f"/v1/rankings/{item['ranking']}")
        assert {entry["model"] for entry in view["entries"]} == {*old, *new}
    sent = service.call("GET", f"/v1/webhooks/{hook}/deliveries", params={"limit": 1000})["items"]
    told = [json.loads(d["body"])["data"] for d in sent[: len(sent) - heard] if d["event"] == "recommendation.changed"]
    assert {data["dataset"] for data in told} == changed

    again = prescored(service, new=True)
    assert (again["state"], sum(again["pairs"].values())) == ("done", 0)
    every = prescored(service, models={"name": new[0]}, datasets="trees 1")
    assert every["pairs"]["skipped"] == 1
    assert "scored before" in pairs(service, every["id"])[0]["reason"]


def test_what_fails_is_said_once_and_tried_again_when_it_is_named(service: Service, tiny_zoo: TinyZoo) -> None:
    datasets(service, 2)
    wrong = {"name": tiny_zoo.wrong.name, "weights": f"file:{tiny_zoo.wrong.path}"}
    good, bad = add(service, [requests(tiny_zoo)[0], requests(tiny_zoo)[2] | wrong])
    found = prescored(service, new=True)
    by_model = {(p["model"], p["state"]): p["reason"] for p in pairs(service, found["id"])}
    assert set(by_model) == {(good, "done"), (bad, "failed")}
    assert by_model[bad, "failed"]
    assert sum(prescored(service, new=True)["pairs"].values()) == 0
    assert prescored(service, models=[bad])["pairs"]["failed"] == 2


def test_a_budget_takes_the_cheapest_pairs(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    datasets(service, 2)  # 15 and 18 images
    add(service, requests(tiny_zoo)[:2])
    found = prescored(service, budget="35img")
    listed = pairs(service, found["id"])
    assert [(p["state"], p["images"]) for p in listed] == [("done", 15), ("done", 15), ("skipped", 18), ("skipped", 18)]
    assert all("beyond the budget of 35" in p["reason"] for p in listed[2:])
    assert prescored(service, new=True)["pairs"]["done"] == 2
    for wrong in ("10", "0s", "5 minutes"):
        service.call("POST", "/v1/prescore", 422, json={"budget": wrong})
    service.call("POST", "/v1/prescore", 422, json={"datasets": "no such*"})


def test_time_that_is_over_skips_what_has_not_begun(service: Service, tiny_zoo: TinyZoo) -> None:
    datasets(service, 2)
    add(service, requests(tiny_zoo)[:1])
    made = service.call("POST", "/v1/prescore", 202, json={"budget": "1h"})
    service.work(subjects=[made["id"]])  # planned
    from sqlalchemy import update

    from service.prescores.tables import PrescoreRow

    with service.database.write() as session:
        session.execute(update(PrescoreRow).values(deadline=1.0))
    service.work()
    view = service.call("GET", f"/v1/prescore/{made['id']}")
    assert (view["state"], view["pairs"]["skipped"]) == ("done", 2)
    assert service.call("GET", "/v1/changes")["items"] == []


def test_a_prescore_that_is_removed_stops(service: Service, tiny_zoo: TinyZoo) -> None:
    datasets(service, 1)
    add(service, requests(tiny_zoo)[:1])
    made = service.call("POST", "/v1/prescore", 202, json={})
    assert service.call("POST", "/v1/prescore", 200, json={})["id"] == made["id"]
    service.work(subjects=[made["id"]])
    [ranking] = service.call("GET", f"/v1/prescore/{made['id']}")["rankings"]
    service.call("DELETE", f"/v1/prescore/{made['id']}", 204)
    service.call("GET", f"/v1/rankings/{ranking}", 404)
    assert [task for task in service.tasks() if task[1] == "queued" and task[0] != "collect"] == []


def test_a_killed_prescore_goes_on(service: Service, tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    """The process that does the work dies without a word; the same command goes on and does each pair once."""
    sets = datasets(service, 3)
    add(service, requests(tiny_zoo)[:2])
    settings = settings_for(service.data_dir, None, worker={"lease_seconds": 3.0, "models_per_task": 1})
    with process(settings, tmp_path / "killed.log", "service.cli", "prescore", "--new") as child:

        def some_done() -> bool:
            assert child.poll() is None, (tmp_path / "killed.log").read_text()
            return any(v["pairs"]["done"] for v in service.call("GET", "/v1/prescore")["items"])

        wait_until(some_done)
        child.send_signal(signal.SIGKILL)
        child.wait()
    [before] = service.call("GET", "/v1/prescore")["items"]
    assert before["state"] == "running"
    view = service.call("POST", "/v1/prescore", 200, json={"new": True})
    assert view["id"] == before["id"]
    service.work()
    listed = pairs(service, view["id"])
    assert len({(p["dataset_id"], p["model_id"]) for p in listed}) == len(listed) == 2 * len(sets)
    assert {pair["state"] for pair in listed} == {"done"}


def test_models_that_are_added_can_be_prescored_at_once(service: Service, tiny_zoo: TinyZoo) -> None:
    datasets(service, 1)
    wanted = requests(tiny_zoo)
    service.call("POST", "/v1/models", 201, json=wanted[0] | {"prescore": True})
    imported = {"source": "timm", "filter": "nothing*", "prescore": True}
    task = service.call("POST", "/v1/models/import", 202, json=imported)["task_id"]
    service.work()
    none = service.call("GET", f"/v1/models/import/{task}")["result"]["prescore"]
    asked = service.call("GET", f"/v1/prescore/{none}")["request"]["models"]
    assert (asked["name"], asked["library"]) == ("nothing*", "timm")
    found = service.call("GET", "/v1/prescore")["items"]
    assert sorted(view["pairs"]["done"] for view in found) == [0, 1]


def test_the_schedule_asks_once_for_what_is_new(service: Service, tiny_zoo: TinyZoo) -> None:
    datasets(service, 1)
    add(service, requests(tiny_zoo)[:1])
    schedule = PrescoreSchedule(service.database, PrescoreSettings(every_hours=6, budget="1000img"))
    [ident] = schedule.ask()
    assert schedule.ask() == []
    assert PrescoreSchedule(service.database, PrescoreSettings()).ask() == []
    service.work()
    view = service.call("GET", f"/v1/prescore/{ident}")
    assert (view["scheduled"], view["pairs"]["done"], view["request"]["budget"]) == (True, 1, "1000img")
