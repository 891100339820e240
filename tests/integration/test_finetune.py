"""`zooscout finetune` and `zooscout outcomes`, as a person runs them."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.compute.finetuning import FAST
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
