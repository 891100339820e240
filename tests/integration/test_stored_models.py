"""A model that has embedded everything already is scored and inspected without its weights."""

from pathlib import Path

import pytest

from tests.helpers.pictures import class_folders, picture, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyModel, TinyZoo

FILES = class_folders(each=6)


@pytest.fixture
def model(service: Service, tiny_zoo: TinyZoo, tmp_path: Path) -> TinyModel:
    """One with source probabilities, whose weights can be taken away."""
    path = tmp_path / "weights.safetensors"
    path.write_bytes(tiny_zoo.good[0].path.read_bytes())
    mine = TinyModel("mine.a", tiny_zoo.good[0].architecture, path)
    service.add_models([mine])
    return mine


def lose(service: Service, model: TinyModel) -> None:
    """As if the file were gone and the worker started anew: none keeps the model loaded."""
    service.worker.models._kept.clear()
    for path in [model.path, *service.files("weights")]:
        path.unlink(missing_ok=True)


def test_other_labels_and_other_estimators_need_no_weights(service: Service, model: TinyModel) -> None:
    parent = service.sealed(zipped(FILES))
    assert service.ranked(parent["id"], [model.name], estimators=["logme"])["state"] == "done"
    lose(service, model)
    child = service.call("POST", f"/v1/datasets/{parent['id']}/versions", 202, json={"relabel": {"ash/0.png": "birch"}})
    service.work()
    ranking = service.ranked(child["id"], [model.name], estimators=["logme", "leep"])
    assert ranking["state"] == "done", ranking
    assert ranking["entries"][0]["scores"]["leep"]["value"] < 0
    inspection = service.call("POST", f"/v1/datasets/{child['id']}/inspections", 202, json={"model": model.name})
    service.work()
    assert service.call("GET", f"/v1/inspections/{inspection['id']}")["state"] == "done"


def test_one_new_image_needs_them(service: Service, model: TinyModel) -> None:
    parent = service.sealed(zipped(FILES))
    service.ranked(parent["id"], [model.name], estimators=["logme"])
    lose(service, model)
    body = zipped({"ash/new.png": picture(0, 77)})
    child = service.call("POST", f"/v1/datasets/{parent['id']}/versions", 202, content=body)
    service.work()
    ranking = service.ranked(child["id"], [model.name], estimators=["logme"])
    assert ranking["entries"][0]["state"] == "failed"
    assert "WeightsNotFound" in ranking["entries"][0]["error"]
