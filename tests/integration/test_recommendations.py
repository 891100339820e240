"""Recommendations over HTTP: prior alone, then evidence, constraints, other projects."""

import pytest

from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo


def test_from_prior_to_evidence(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    path = f"/v1/datasets/{dataset['id']}/recommendations"
    before = service.call("GET", path)
    assert before["ranking"] is None
    assert before["ordered_by"] == "prior"
    assert {entry["prior"]["basis"] for entry in before["entries"]} == {"names"}
    assert any("like names" in warning for warning in before["warnings"])

    names = tiny_zoo.names
    for name, accuracy in zip(names, (0.2, 0.9, 0.5), strict=True):
        body = {"dataset": "elsewhere", "model": name, "accuracy": accuracy}
        assert service.client.post("/v1/outcomes", json=body).status_code == 201
    learned = service.call("GET", path)
    assert [entry["model"] for entry in learned["entries"]] == [names[1], names[2], names[0]]
    assert {entry["prior"]["basis"] for entry in learned["entries"]} == {"record"}

    view = service.ranked(dataset["id"], names)
    found = service.call("GET", path)
    assert (found["ranking"], found["ordered_by"]) == (view["id"], found["fit"]["part"])
    ranked = {entry["model"]: entry for entry in view["entries"]}
    ties = {entry["model"]: set(entry["tied_with"]) for entry in found["entries"]}
    for entry in found["entries"]:
        assert entry["evidence"]["value"] == ranked[entry["model"]]["scores"]["logme"]["value"]
        assert entry["prior"]["basis"] == "record"
        told = entry["expected"]
        assert 0 <= told["interval"][0] < told["accuracy"] < told["interval"][1] <= 1
        assert told["measured"] is None
        assert all(entry["model"] in ties[other] for other in ties[entry["model"]])
    for chances in ("evidence", "expected"):
        assert abs(sum(e[chances]["probability_best"] for e in found["entries"]) - 1) < 1e-9
    expected = [e["expected"]["accuracy"] for e in found["entries"]]
    assert expected == sorted(expected, reverse=True)
    assert found["fit"]["of_project"] == 0
    assert any("learned from" in line for line in found["said"])

    none = service.call("GET", path, params={"max_params": 1})
    assert none["entries"] == []
    assert len(none["excluded"]) == 3


@pytest.mark.parametrize("top1", [(0.70, 0.85), (0.85, 0.70)])
def test_models_without_any_outcome_stand_by_their_cards(
    service: Service, tiny_zoo: TinyZoo, top1: tuple[float, float]
) -> None:
    of_one_name = tiny_zoo.good[:2]
    for model, stated in zip(of_one_name, top1, strict=True):
        made = service.call("POST", "/v1/models", 201, json=model.request(imagenet_top1=stated))
        assert made["imagenet_top1"] == stated
    service.work()
    found = service.call("GET", f"/v1/datasets/{service.sealed()['id']}/recommendations")
    better, worse = sorted(zip(top1, of_one_name, strict=True), key=lambda pair: -pair[0])
    assert [entry["model"] for entry in found["entries"]] == [better[1].name, worse[1].name]
    assert any("ImageNet accuracy" in warning for warning in found["warnings"])


def test_a_better_start_for_expected_accuracies_is_named_until_it_is_there(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    path = f"/v1/datasets/{dataset['id']}/recommendations"
    better = {}
    for probe in ("knn", "lda", "linear_probe"):
        service.ranked(dataset["id"], tiny_zoo.names, estimators=["logme", probe])
        found = service.call("GET", path)
        assert found["fit"]["level"] == probe
        better[probe] = [line for line in found["said"] if "would tell them better" in line]
    assert "`lda`" in better["knn"][0]
    assert "`linear_probe`" in better["knn"][0]
    assert "`linear_probe`" in better["lda"][0]
    assert "`lda` (" not in better["lda"][0]
    assert better["linear_probe"] == []


def test_a_ranking_must_be_of_the_dataset(service: Service) -> None:
    dataset = service.sealed()
    path = f"/v1/datasets/{dataset['id']}/recommendations"
    assert service.client.get(path, params={"ranking": "rk_none"}).status_code == 404
    assert service.client.get("/v1/datasets/ds_none/recommendations").status_code == 404
    assert service.client.get(path, params={"max_milliseconds": 0}).status_code == 422
    empty = service.call("GET", path)
    assert empty["entries"] == []
    assert empty["ordered_by"] == "nothing"


def test_outcomes_are_held_against_what_was_foretold(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    nothing = service.call("GET", "/v1/estimators/agreement")
    assert (nothing["outcomes"], nothing["datasets"], nothing["entries"]) == (0, 0, [])
    assert "finetune" in nothing["said"][0]

    view = service.ranked(dataset["id"], tiny_zoo.names, estimators=["logme", "knn"])
    for place, entry in enumerate(view["entries"]):  # fine-tuning gave LogME's order
        body = {"dataset": dataset["id"], "model": entry["model"], "accuracy": 0.9 - 0.1 * place, "n_test": 100}
        assert service.client.post("/v1/outcomes", json=body).status_code == 201
    found = service.call("GET", "/v1/estimators/agreement")
    by_name = {entry["name"]: entry for entry in found["entries"]}
    assert (found["outcomes"], found["datasets"]) == (3, 1)
    assert (by_name["logme"]["tau"], by_name["logme"]["regret_1"]) == (1.0, 0.0)
    assert by_name["logme"]["kind"] == "estimator"
    assert by_name["logme"]["tau_interval"] is None  # one dataset has no spread
    assert by_name["logme"]["by_dataset"][0]["models"] == 3
    assert {"knn", "model size"} <= by_name.keys()

    shown = service.call("GET", f"/v1/datasets/{dataset['id']}/recommendations")
    for entry in shown["entries"]:
        low, high = entry["expected"]["interval"]
        assert low <= entry["expected"]["accuracy"] <= high
        assert entry["expected"]["measured"] is not None
        assert entry["weights_bytes"] == 4 * entry["params"]
        assert entry["weights_bytes"] < entry["forward_bytes"]
    light = service.call("GET", f"/v1/datasets/{dataset['id']}/recommendations", params={"max_weights_bytes": 1})
    assert all("bytes of weights" in left["reason"] for left in light["excluded"])
    assert light["entries"] == []
    most = sorted(entry["forward_bytes"] for entry in shown["entries"])[0]
    small = service.call("GET", f"/v1/datasets/{dataset['id']}/recommendations", params={"max_forward_bytes": most})
    assert {entry["forward_bytes"] for entry in small["entries"]} == {most}
    assert all("bytes of a forward pass" in left["reason"] for left in small["excluded"])


def test_outcomes_outlive_their_dataset_and_belong_to_its_copies(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    archive = zipped(class_folders(each=12))
    dataset = service.sealed(archive)
    path = f"/v1/datasets/{dataset['id']}/recommendations"
    service.ranked(dataset["id"], tiny_zoo.names)
    for name, accuracy in zip(tiny_zoo.names, (0.6, 0.9, 0.7), strict=True):
        service.call("POST", "/v1/outcomes", 201, json={"dataset": "trees", "model": name, "accuracy": accuracy})
    measured = dict(zip(tiny_zoo.names, (0.6, 0.9, 0.7), strict=True))

    def here(path: str) -> dict[str, float]:
        answer = service.call("GET", path)
        assert answer["fit"]["of_project"] == 0  # nothing is learned of a dataset from its own outcomes
        return {entry["model"]: entry["expected"]["measured"] for entry in answer["entries"]}

    assert here(path) == measured
    copy = service.sealed(zipped({**class_folders(each=12), "about.txt": b"the same images"}), name="copy")
    assert copy["fingerprint"] == dataset["fingerprint"]
    service.ranked(copy["id"], tiny_zoo.names)
    assert here(f"/v1/datasets/{copy['id']}/recommendations") == measured
    assert here(path) == measured

    service.call("DELETE", f"/v1/datasets/{copy['id']}", 204)
    service.call("DELETE", f"/v1/datasets/{dataset['id']}", 204)
    again = service.sealed(archive, name="again")
    service.ranked(again["id"], tiny_zoo.names)
    assert here(f"/v1/datasets/{again['id']}/recommendations") == measured
    found = service.call("GET", "/v1/estimators/agreement")
    assert (found["outcomes"], found["datasets"]) == (3, 1)

    # One more ranking of one model takes nothing from what is known of the three.
    service.ranked(again["id"], tiny_zoo.names[:1])
    assert service.call("GET", "/v1/estimators/agreement")["datasets"] == 1


def test_an_outcome_of_other_weights_is_another_models(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    name = tiny_zoo.names[0]
    service.call("POST", "/v1/outcomes", 201, json={"dataset": "trees", "model": name, "accuracy": 0.99})
    service.call("DELETE", f"/v1/models/{name}", 204)
    service.call("POST", "/v1/models", 201, json=tiny_zoo.good[1].request(name=name, crop_pct=0.5))
    service.work()
    service.ranked(dataset["id"], tiny_zoo.names)
    answer = service.call("GET", f"/v1/datasets/{dataset['id']}/recommendations")
    assert [entry["expected"]["measured"] for entry in answer["entries"]] == [None] * 3


def test_the_chance_to_be_the_best_is_among_those_that_are_left(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    service.ranked(dataset["id"], tiny_zoo.names)
    path = f"/v1/datasets/{dataset['id']}/recommendations"
    most = sorted(entry["params"] for entry in service.call("GET", path)["entries"])[0]
    left = service.call("GET", path, params={"max_params": most})
    assert left["excluded"]
    assert sum(entry["expected"]["probability_best"] for entry in left["entries"]) == pytest.approx(1)


def test_evidence_stays_where_a_race_has_nothing_left_to_embed(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    path = f"/v1/datasets/{dataset['id']}/recommendations"
    service.ranked(dataset["id"], tiny_zoo.names)
    before = service.call("GET", path)
    raced = service.ranked(dataset["id"], tiny_zoo.names, budget="100000img")
    after = service.call("GET", path)
    assert after["ranking"] == raced["id"]
    for key in ("evidence", "expected"):
        assert [entry[key] for entry in after["entries"]] == [entry[key] for entry in before["entries"]]
    assert all(entry["evidence"] for entry in after["entries"])
