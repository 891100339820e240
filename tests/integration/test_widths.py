"""An estimator whose value depends on the number of features orders no models that differ in it."""

from service.models.schemas import ModelCreate
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo


def test_models_of_several_widths_are_not_ordered_by_gbc(service: Service, tiny_zoo: TinyZoo) -> None:
    dataset = service.sealed()["id"]
    models = service.add_models(tiny_zoo.good)
    assert len({model["feature_dim"] for model in models}) == 2
    body = {"dataset": dataset, "models": tiny_zoo.names, "ordered_by": "gbc"}
    problem = service.call("POST", "/v1/rankings", 422, json=body)
    assert problem["type"] == "/problems/not-comparable"
    same_width = [model["name"] for model in models if model["feature_dim"] == models[0]["feature_dim"]]
    done = service.ranked(dataset, same_width, ordered_by="gbc")
    assert [entry["rank"] for entry in done["entries"]] == list(range(1, len(same_width) + 1))


def test_widths_seen_only_while_ranking_leave_the_models_unordered(service: Service, tiny_zoo: TinyZoo) -> None:
    dataset = service.sealed()["id"]
    for model in tiny_zoo.good:  # not worked on: their widths are unknown when the ranking is asked for
        service.call("POST", "/v1/models", 201, json=ModelCreate(**model.request()).model_dump(exclude_none=True))
    done = service.ranked(dataset, tiny_zoo.names, ordered_by="gbc")
    assert done["state"] == "done"
    assert {entry["rank"] for entry in done["entries"]} == {None}
    assert all(entry["scores"]["gbc"]["value"] is not None for entry in done["entries"])
    assert "depends on the number of features" in done["error"]["detail"]
