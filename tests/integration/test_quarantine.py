"""Failures that may pass are waited out; a model that fails by itself on three datasets is left alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, cli
from tests.helpers.zoo import TinyModel, TinyZoo


@pytest.fixture
def broken(tiny_zoo: TinyZoo, tmp_path: Path) -> TinyModel:
    """Fits its architecture, and computes nothing but NaN."""
    whole = tiny_zoo.good[0]
    path = tmp_path / "nan.safetensors"
    save_file(
        {name: t * float("nan") if t.is_floating_point() else t for name, t in load_file(whole.path).items()}, path
    )
    return TinyModel("tiny_nan.a", whole.architecture, path)


def test_a_model_that_fails_on_three_datasets_is_skipped_until_it_is_released(
    service: Service, tiny_zoo: TinyZoo, broken: TinyModel
) -> None:
    good, bad = service.add_models([tiny_zoo.good[0], broken])
    datasets = [service.sealed(zipped(class_folders(each=4, seed=n)), name=f"d{n}")["id"] for n in range(4)]

    def entry(dataset: str) -> dict[str, str]:
        ranking = service.ranked(dataset, [good["name"], bad["name"]])
        entries = {e["model_id"]: e for e in ranking["entries"]}
        assert entries[good["id"]]["state"] == "done"
        assert entries[bad["id"]]["state"] == "failed"
        return entries[bad["id"]]

    for dataset in (datasets[0], datasets[1], datasets[0], datasets[1]):  # the same one twice counts once
        assert "not a number" in entry(dataset)["error"]
    assert service.call("GET", f"/v1/models/{bad['id']}")["quarantined_at"] is None
    entry(datasets[2])
    held = service.call("GET", f"/v1/models/{bad['id']}")
    assert held["quarantined_at"] is not None
    assert "3 different datasets" in held["quarantine_reason"]
    assert "not a number" in held["quarantine_reason"]
    skipped = entry(datasets[3])
    assert skipped["error"].startswith("Skipped, for it is quarantined.")
    assert "zooscout models release tiny_nan.a" in skipped["error"]
    embedded = [task for task in service.tasks(kind="embed") if task[1] == "done"]
    entry(datasets[3])
    assert [task for task in service.tasks(kind="embed") if task[1] == "done"] == embedded

    def listed(**params: object) -> list[str]:
        return [model["name"] for model in service.call("GET", "/v1/models", params=params)["items"]]

    assert listed(quarantined=True) == [bad["name"]]
    assert listed(quarantined=False) == [good["name"]]
    shown = cli(service.settings, "models", "ls", "--quarantined", COLUMNS="200").stdout
    assert "tiny_nan.a" in shown
    assert "quarantined" in shown
    assert good["name"] not in shown

    released = service.call("POST", f"/v1/models/{bad['name']}/release")
    assert (released["quarantined_at"], released["quarantine_reason"]) == (None, None)
    assert "not a number" in entry(datasets[3])["error"]
    assert service.call("GET", f"/v1/models/{bad['id']}")["quarantined_at"] is None
    assert "in no quarantine" in cli(service.settings, "models", "release", bad["name"]).stdout
    service.call("POST", "/v1/models/nobody/release", 404)


def test_weights_that_cannot_be_fetched_now_are_tried_again_and_held_against_nobody(
    make_service: Callable[..., Service], tiny_zoo: TinyZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    service = make_service(worker={"max_attempts": 2})
    service.add_models(tiny_zoo.good[:1])
    away = {"name": "tiny_away.a", "architecture": "test_resnet", "weights": "hf-hub:nobody/nothing", "input_size": 32}
    model = service.call("POST", "/v1/models", 201, json=away)
    service.work()
    assert service.call("GET", f"/v1/models/{model['id']}")["state"] == "failed"
    dataset = service.sealed()
    ranking = service.ranked(dataset["id"], ["tiny_away.a", tiny_zoo.names[0]])
    entries = {e["model"]: e for e in ranking["entries"]}
    assert entries[tiny_zoo.names[0]]["state"] == "done"
    assert entries["tiny_away.a"]["state"] == "failed"
    assert "HubUnreachable" in entries["tiny_away.a"]["error"]
    assert len(service.tasks(kind="embed", state="done")) == 2  # together, then alone after a wait
    assert service.call("GET", "/v1/models", params={"quarantined": True})["items"] == []
