"""`zooscout finetune` and `zooscout outcomes`, as a person runs them."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.compute.finetuning import FAST
from service.core.errors import Cancelled
from service.executors.protocol import Watch
from service.jobs import repository as jobs
from service.worker.finetuning import finetune
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, cli, running, settings_for
from tests.helpers.zoo import TinyZoo


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo) -> Iterator[Service]:
    with running(settings_for(tmp_path_factory.mktemp("finetune") / "data", None)) as on:
        on.sealed(zipped(class_folders(each=10)), name="trees")
        on.add_models(tiny_zoo.good[:2])
        on.call("POST", "/v1/models", 201, json=tiny_zoo.missing.request())
        yield on


def test_the_top_models_are_measured_and_recorded(stocked: Service, tiny_zoo: TinyZoo) -> None:
    names = [model.name for model in tiny_zoo.good[:2]]
    done = cli(
        stocked.settings, "finetune", "trees", "tiny_resnet.*", tiny_zoo.missing.name, "--recipe", "fast", "--json"
    )
    assert done.returncode == 6, done.stderr
    answer = json.loads(done.stdout)
    assert answer["recipe"]["id"] == FAST.id
    assert answer["tested_on"] == "30% of the images of each class, held out"
    assert answer["test"] == pytest.approx(0.3 * (answer["train"] + answer["test"]), abs=3)
    *measured, failed = answer["results"]
    assert sorted(result["model"] for result in measured) == sorted(names)
    assert failed["model"] == tiny_zoo.missing.name
    assert "no such file" in failed["error"]
    assert [r["accuracy"] for r in measured] == sorted((r["accuracy"] for r in measured), reverse=True)
    for result in measured:
        low, high = result["interval"]
        assert low <= result["accuracy"] <= high
        assert (result["accuracy"] * answer["test"]) % 1 == pytest.approx(0, abs=1e-4) or result["accuracy"] in (0, 1)
        assert 0 <= result["epoch"] <= FAST.epochs
        kept = stocked.call("GET", f"/v1/outcomes/{result['outcome_id']}")
        model = stocked.call("GET", f"/v1/models/{result['model']}")
        assert (kept["accuracy"], kept["n_test"], kept["recipe"]) == (result["accuracy"], answer["test"], FAST.id)
        assert (kept["source"], kept["weights_sha256"]) == ("zooscout finetune", model["weights_sha256"])
        assert len(kept["extractor_id"]) == 64

    again = cli(stocked.settings, "finetune", "trees", names[0], "--recipe", "fast", "--json")
    assert again.returncode == 0, again.stderr
    [repeated] = json.loads(again.stdout)["results"]
    [before] = [r for r in measured if r["model"] == names[0]]
    assert repeated["measured_before"]
    assert repeated["outcome_id"] == before["outcome_id"]

    short = cli(stocked.settings, "finetune", "trees", names[0], "--budget", "1")  # over while torch loads
    assert short.returncode == 1
    assert "budget" in short.stderr


def test_a_service_measures_as_the_command_does(stocked: Service, tiny_zoo: TinyZoo) -> None:
    stocked.sealed(zipped(class_folders(each=10, seed=7)), name="oaks")
    names = [tiny_zoo.good[0].name, tiny_zoo.missing.name]
    body = {"dataset": "oaks", "models": names, "recipe": "fast"}
    key = {"Idempotency-Key": "once"}
    answer = stocked.client.post("/v1/finetunings", json=body, headers=key)
    assert answer.status_code == 202, answer.text
    begun = answer.json()
    assert (begun["state"], begun["models"], begun["plan"], begun["results"]) == ("queued", names, None, [])
    place = answer.headers["Location"]
    assert stocked.client.post("/v1/finetunings", json=body, headers=key).json()["id"] == begun["id"]
    assert [state for _, state, _ in stocked.tasks(kind="finetune")] == ["queued"]
    stocked.work()
    done = stocked.call("GET", place)
    assert (done["state"], done["error"], done["plan"]["recipe"]["id"]) == ("done", None, FAST.id)
    measured, failed = done["results"]
    assert "no such file" in failed["error"]
    kept = stocked.call("GET", f"/v1/outcomes/{measured['outcome_id']}")
    assert (kept["accuracy"], kept["n_test"]) == (measured["accuracy"], done["plan"]["test"])

    again = stocked.call("POST", "/v1/finetunings", 202, json=body)
    stocked.work()
    known = stocked.call("GET", f"/v1/finetunings/{again['id']}")["results"][0]
    assert known["measured_before"]
    assert known["outcome_id"] == measured["outcome_id"]
    stocked.call("DELETE", place, 204)
    stocked.call("GET", place, 404)
    stocked.call("GET", f"/v1/outcomes/{measured['outcome_id']}")


def test_a_fine_tuning_that_is_removed_records_nothing_more(stocked: Service, tiny_zoo: TinyZoo) -> None:
    dataset, model = stocked.sealed(zipped(class_folders(each=10, seed=8)), name="elms")["id"], tiny_zoo.good[0].name
    view = stocked.call("POST", "/v1/finetunings", 202, json={"dataset": dataset, "models": [model]})
    with stocked.database.write() as session:
        task = jobs.claim(session, "one", lease_seconds=60, subjects=[view["id"]])
    assert task is not None
    stages: list[str] = []

    def told() -> bool:
        if model in stages:  # in the midst of training, someone removes it
            stocked.call("DELETE", f"/v1/finetunings/{view['id']}", 204)
            return True
        return False

    with pytest.raises(Cancelled):
        finetune(stocked.worker, task, Watch(lambda said: stages.append(said["progress"]["stage"]), told))
    assert set(stages) == {"reading images", model}
    assert stocked.call("GET", "/v1/outcomes", params={"dataset": dataset})["items"] == []
    stocked.call("GET", f"/v1/finetunings/{view['id']}", 404)


def test_what_cannot_be_fine_tuned_is_refused_or_said(stocked: Service, tiny_zoo: TinyZoo) -> None:
    name = tiny_zoo.good[0].name
    for body, status in (
        ({"dataset": "nothing", "models": [name]}, 404),
        ({"dataset": "trees", "models": ["nothing"]}, 422),
        ({"dataset": "trees", "models": []}, 422),
        ({"dataset": "trees", "models": [name], "recipe": "slow"}, 422),
        ({"dataset": "trees", "models": [name], "budget_seconds": 0}, 422),
    ):
        stocked.call("POST", "/v1/finetunings", status, json=body)
    two = stocked.sealed(zipped(class_folders(each=1)), name="two")
    view = stocked.call("POST", "/v1/finetunings", 202, json={"dataset": two["id"], "models": [name]})
    stocked.work()
    found = stocked.call("GET", f"/v1/finetunings/{view['id']}")
    assert (found["state"], found["error"]["status"], found["results"]) == ("failed", 422, [])
    assert "two classes" in found["error"]["detail"]


def test_outcomes_go_out_and_come_in(stocked: Service, tmp_path: Path) -> None:
    added = cli(stocked.settings, "outcomes", "add", "pets", "a", "0.9", "--n-test", "100")
    assert added.returncode == 0, added.stderr
    assert "no dataset here is called pets" in added.stdout
    listed = cli(stocked.settings, "outcomes", "ls", "--dataset", "pets")
    assert "90.0%" in listed.stdout
    file = tmp_path / "outcomes.csv"
    assert cli(stocked.settings, "outcomes", "export", str(file)).returncode == 0
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert any(row["dataset"] == "pets" and float(row["accuracy"]) == 0.9 for row in rows)
    back = cli(stocked.settings, "outcomes", "import", str(file), "--json")
    assert json.loads(back.stdout)["unchanged"] == len(rows)
    refused = cli(stocked.settings, "outcomes", "add", "pets", "a", "90")
    assert refused.returncode != 0
    assert "0.9" in refused.stderr


def test_what_cannot_be_measured_is_said_in_a_line(stocked: Service) -> None:
    for words, said in ((["nothing", "x"], "no dataset"), (["trees", "nothing*"], "No model matches")):
        ended = cli(stocked.settings, "finetune", *words)
        assert ended.returncode != 0
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
