"""Rankings over HTTP: asked for, worked off, ordered, taken from the cache, removed."""

import threading
from typing import Any

import numpy as np
import pytest
from sqlalchemy import update

from estimators.catalog import SPECS
from service.scoring.tables import ScoreRow
from service.worker.loop import run
from tests.helpers.pictures import CLASSES, class_folders, picture, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo


def test_a_ranking_from_request_to_ordered_entries(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    answer = service.client.post("/v1/rankings", json={"dataset": dataset["id"], "models": {"name": "tiny_*"}})
    assert answer.status_code == 202
    queued = answer.json()
    assert answer.headers["Location"] == f"/v1/rankings/{queued['id']}"
    assert queued["state"] == "queued"
    assert {e["state"] for e in queued["entries"]} == {"waiting"}
    assert queued["progress"]["models_total"] == 3

    service.work()
    done = service.call("GET", answer.headers["Location"])
    assert done["state"] == "done"
    assert done["error"] is None
    assert done["split"] == "train"
    assert done["estimators"] == ["logme", "knn", "ped_logme", "frechet"]
    assert done["dataset"]["fingerprint"] == dataset["fingerprint"]
    assert done["created_at"] <= done["started_at"] <= done["finished_at"]
    assert [e["rank"] for e in done["entries"]] == [1, 2, 3]
    values = [e["scores"]["logme"]["value"] for e in done["entries"]]
    assert values == sorted(values, reverse=True)
    for entry in done["entries"]:
        assert entry["state"] == "done"
        assert entry["error"] is None
        assert list(entry["scores"]) == done["estimators"]
        assert entry["images_per_second"] > 0
        assert entry["params"] > 0
        assert set(entry["tied_with"]) <= set(tiny_zoo.names) - {entry["model"]}
    progress = done["progress"]
    assert (progress["models_done"], progress["models_total"], progress["stage"]) == (3, 3, "done")
    assert progress["images_embedded"] == progress["images_to_embed"] == 3 * len(CLASSES) * 8
    assert progress["stage_seconds"].keys() == {"decode", "forward", "write"}
    assert all(seconds > 0 for seconds in progress["stage_seconds"].values())
    listed = service.call("GET", "/v1/rankings", params={"dataset": dataset["id"]})["items"]
    assert [(r["id"], r["n_models"], r["state"]) for r in listed] == [(done["id"], 3, "done")]


def test_the_same_ranking_again_is_answered_without_embedding(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    first = service.ranked(dataset["id"], tiny_zoo.names)
    second = service.ranked(dataset["id"], tiny_zoo.names)
    assert service.tasks(kind="embed", subject_id=first["id"])
    assert service.tasks(kind="embed", subject_id=second["id"]) == []
    assert second["id"] != first["id"]
    assert second["entries"] == first["entries"]
    assert second["progress"]["images_to_embed"] == 0


def test_another_estimator_costs_no_forward_pass(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:2])
    dataset = service.sealed()
    service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme"])
    before = service.files("segments")
    more = service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme", "knn"], ordered_by="knn")
    assert more["ordered_by"] == "knn"
    assert [set(e["scores"]) for e in more["entries"]] == [{"logme", "knn"}] * 2
    assert more["progress"]["images_embedded"] == 0
    assert service.files("segments") == before


def test_an_image_that_two_datasets_share_is_embedded_once(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    names = tiny_zoo.names[:1]
    small = service.sealed(zipped(class_folders(each=6)), name="small")
    service.ranked(small["id"], names)
    large = service.sealed(zipped(class_folders(each=8)), name="large")
    ranking = service.ranked(large["id"], names)
    assert ranking["progress"]["images_embedded"] == len(CLASSES) * 2


def test_scores_are_those_of_the_features_in_the_store(service: Service, tiny_zoo: TinyZoo) -> None:
    """Labels and rows must pair up, whatever the order of files, batches and segments."""
    import torch

    from estimators.evidence import Evidence
    from estimators.panel import evaluate
    from zoo.catalog import ModelCard
    from zoo.extract import load
    from zoo.preprocess import decode, prepare

    (model,) = service.add_models(tiny_zoo.good[:1])
    files = class_folders(each=9)
    dataset = service.sealed(zipped(files))
    names = ["logme", "knn", "h_score"]
    scores = service.ranked(dataset["id"], [model["id"]], estimators=names)["entries"][0]["scores"]
    extractor = load(ModelCard.from_json(model["card"]), device="cpu", cache_dir=service.settings.weights_cache)
    pixels = torch.stack([prepare(decode(data), extractor.card.preprocess) for data in files.values()])
    labels = torch.tensor([CLASSES.index(name.split("/")[0]) for name in files])
    expected = evaluate(Evidence(labels=labels, features=extractor.forward(pixels)[0]), list(scores))
    for name, score in scores.items():
        found = expected[name].score
        assert found is not None
        assert score["value"] == pytest.approx(found.value, rel=1e-4), name


def test_a_ranking_scores_the_training_split_and_says_so(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    train = class_folders(prefix="train/", each=6)
    split = service.sealed(zipped(train | class_folders(prefix="test/", each=4, seed=1)), name="both")
    alone = service.sealed(zipped(train), name="train alone")
    first = service.ranked(split["id"], tiny_zoo.names[:1])
    second = service.ranked(alone["id"], tiny_zoo.names[:1])
    assert first["split"] == "train"
    assert first["progress"]["images_to_embed"] == len(CLASSES) * 6
    values = [r["entries"][0]["scores"]["logme"]["value"] for r in (first, second)]
    assert values[0] == values[1]
    tested = service.sealed(zipped(class_folders(prefix="test/", each=6, seed=1)), name="test alone")
    assert service.ranked(tested["id"], tiny_zoo.names[:1])["split"] == "test"


def test_one_bad_model_never_fails_the_ranking_and_stands_last(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    bad = [tiny_zoo.wrong, tiny_zoo.truncated, tiny_zoo.missing]
    service.add_models([*bad, *tiny_zoo.good[:2]])
    done = service.ranked(service.sealed()["id"], {"name": "tiny_*"})
    assert done["state"] == "done"
    assert [e["rank"] for e in done["entries"]] == [1, 2, None, None, None]
    assert {e["model"] for e in done["entries"][:2]} == set(tiny_zoo.names[:2])
    failed = {e["model"]: e for e in done["entries"][2:]}
    assert set(failed) == {m.name for m in bad}
    for entry in failed.values():
        assert entry["state"] == "failed"
        assert entry["scores"] == {}
    assert "conv_stem.weight" in failed[tiny_zoo.wrong.name]["error"]
    assert done["progress"]["models_done"] == 5


def test_a_ranking_of_bad_models_alone_fails_and_says_why(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models([tiny_zoo.missing])
    done = service.ranked(service.sealed()["id"], [tiny_zoo.missing.name])
    assert done["state"] == "failed"
    assert done["error"]["title"] == "No model could be scored"
    assert "nowhere" in done["entries"][0]["error"]


def test_an_estimator_that_cannot_answer_gives_its_reason_and_the_others_answer(
    service: Service, tiny_zoo: TinyZoo
) -> None:
    service.add_models(tiny_zoo.good[:2])  # the first keeps a classifier, the second has none
    done = service.ranked(service.sealed()["id"], tiny_zoo.names[:2], estimators=["logme", "leep"])
    assert done["state"] == "done"
    scores = {e["model"]: e["scores"] for e in done["entries"]}
    with_head, without_head = (scores[name] for name in tiny_zoo.names[:2])
    assert with_head["leep"]["value"] < 0
    assert without_head["leep"]["value"] is None
    assert "classifier" in without_head["leep"]["degenerate"]
    assert all(s["logme"]["value"] is not None for s in scores.values())
    by_leep = service.ranked(done["dataset"]["id"], tiny_zoo.names[:2], estimators=["leep"])
    assert [(e["model"], e["rank"]) for e in by_leep["entries"]] == [(tiny_zoo.names[0], 1), (tiny_zoo.names[1], None)]


def test_a_ranking_asked_for_before_its_dataset_is_checked_waits_for_it(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    made = service.upload(zipped(class_folders()))
    done = service.ranked(made["id"], tiny_zoo.names[:1])
    assert done["state"] == "done"


def test_a_ranking_on_a_dataset_that_is_then_refused_fails_with_its_problem(
    service: Service, tiny_zoo: TinyZoo
) -> None:
    service.add_models(tiny_zoo.good[:1])
    made = service.upload(zipped({"a/1.png": b"no image", "b/1.png": b"none"}))
    done = service.ranked(made["id"], tiny_zoo.names[:1])
    assert done["state"] == "failed"
    assert done["error"]["type"] == "/problems/nothing-readable"
    assert [e["state"] for e in done["entries"]] == ["failed"]
    again = service.call("POST", "/v1/rankings", 409, json={"dataset": made["id"], "models": tiny_zoo.names[:1]})
    assert again["type"] == "/problems/dataset-was-refused"


BAD_REQUESTS: list[tuple[dict[str, Any], int, str]] = [
    ({"dataset": "ds_none"}, 404, "not-found"),
    ({"models": ["nobody"]}, 422, "invalid-request"),
    ({"models": []}, 422, "invalid-request"),
    ({"models": {"name": "zzz*"}}, 422, "invalid-request"),
    ({"models": {"colour": "red"}}, 422, "invalid-request"),
    ({"models": {"min_params": 2**70}}, 422, "invalid-request"),
    ({"models": ["a\0b"]}, 422, "invalid-request"),
    ({"estimators": []}, 422, "invalid-request"),
    ({"ordered_by": ""}, 422, "unknown-estimator"),
    ({"estimators": ["nonsense"]}, 422, "unknown-estimator"),
    ({"estimators": ["logme"], "ordered_by": "nonsense"}, 422, "unknown-estimator"),
    ({"estimators": ["frechet"]}, 422, "reference-needed"),
    ({"estimators": ["zero_shot"]}, 422, "unknown-estimator"),
    ({"dataset": "a\0b"}, 422, "invalid-request"),
    ({"more": 1}, 422, "invalid-request"),
]


def test_a_request_that_cannot_be_carried_out_is_refused_and_leaves_nothing(
    each_service: Service, tiny_zoo: TinyZoo
) -> None:
    service = each_service
    service.call("POST", "/v1/models", 201, json=tiny_zoo.good[0].request())
    dataset = service.sealed()
    good = {"dataset": dataset["id"], "models": tiny_zoo.names[:1]}
    for change, status, slug in BAD_REQUESTS:
        problem = service.call("POST", "/v1/rankings", status, json=good | change)
        assert problem["type"] == f"/problems/{slug}", (change, problem)
    assert service.call("GET", "/v1/rankings")["items"] == []


def test_a_model_that_a_ranking_needs_is_kept_until_it_ends(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed()
    body = {"dataset": dataset["id"], "models": tiny_zoo.names[:1]}
    made = service.call("POST", "/v1/rankings", 202, json=body)
    assert service.call("DELETE", f"/v1/models/{tiny_zoo.names[0]}", 409)["type"] == "/problems/model-in-use"
    service.call("DELETE", f"/v1/rankings/{made['id']}", 204)
    service.call("GET", f"/v1/rankings/{made['id']}", 404)
    service.call("DELETE", f"/v1/models/{tiny_zoo.names[0]}", 204)
    service.work()


def test_rankings_page_newest_first(service: Service, tiny_zoo: TinyZoo) -> None:
    service.call("POST", "/v1/models", 201, json=tiny_zoo.good[0].request())
    dataset = service.sealed()
    body = {"dataset": dataset["id"], "models": tiny_zoo.names[:1]}
    made = [service.call("POST", "/v1/rankings", 202, json=body)["id"] for _ in range(5)]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = service.call("GET", "/v1/rankings", params=query)
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert found == sorted(made, reverse=True)
    service.call("GET", "/v1/rankings", 422, params={"cursor": "made-up"})


def test_duplicates_and_grey_images_among_the_rest_do_no_harm(service: Service, tiny_zoo: TinyZoo) -> None:
    files = class_folders(each=6)
    files["ash/copy.png"] = files["ash/0.png"]
    files["ash/broken.png"] = picture(0, 77)[:60]
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed(zipped(files))
    assert dataset["n_images"] == len(CLASSES) * 6
    assert "broken.png" in str(dataset["report"])
    done = service.ranked(dataset["id"], tiny_zoo.names[:1])
    assert done["state"] == "done"
    assert np.isfinite(done["entries"][0]["scores"]["logme"]["value"])


def test_a_ranking_keeps_its_numbers_when_an_estimator_has_a_new_version(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    first = service.ranked(dataset["id"], tiny_zoo.names, estimators=["logme", "knn"])
    with service.database.write() as session:
        session.execute(update(ScoreRow).where(ScoreRow.estimator == "logme").values(version=0))
    assert values_of(service.call("GET", f"/v1/rankings/{first['id']}")) == values_of(first)
    page = service.client.get(f"/rankings/{first['id']}").text
    assert "LogME: computed by an earlier version" in page
    partly = service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme", "knn"])
    assert [entry["scores"]["logme"]["version"] for entry in partly["entries"]] == [SPECS["logme"].version] * 2
    # one of the three has only the old number: the first ranking shows the old ones throughout
    shown = service.call("GET", f"/v1/rankings/{first['id']}")
    assert {entry["scores"]["logme"]["version"] for entry in shown["entries"]} == {0}
    assert values_of(shown) == values_of(first)


def values_of(ranking: dict[str, Any]) -> list[tuple[str, list[float]]]:
    return [(e["model"], [score["value"] for score in e["scores"].values()]) for e in ranking["entries"]]


def test_a_cancelled_ranking_keeps_what_was_scored_and_no_worker_goes_on_with_it(
    service: Service, tiny_zoo: TinyZoo
) -> None:
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    service.ranked(dataset["id"], tiny_zoo.names[:1])
    more = service.call("POST", "/v1/rankings", 202, json={"dataset": dataset["id"], "models": tiny_zoo.names})
    address = f"/v1/rankings/{more['id']}"
    planned = lambda: service.call("GET", address)["progress"]["models_done"] == 1  # noqa: E731
    run(service.worker, threading.Event(), finished=planned)  # what was scored before is done once it is planned
    cancelled = service.call("POST", f"/v1/rankings/{more['id']}/cancel", 200)
    assert cancelled["state"] == "cancelled"
    assert cancelled["finished_at"] is not None
    entries = {entry["model"]: entry for entry in cancelled["entries"]}
    assert entries[tiny_zoo.names[0]]["rank"] == 1
    assert entries[tiny_zoo.names[0]]["scores"]["logme"]["value"] is not None
    assert {entries[name]["state"] for name in tiny_zoo.names[1:]} == {"failed"}
    assert all("cancelled" in entries[name]["error"] for name in tiny_zoo.names[1:])
    service.work()
    assert service.call("GET", f"/v1/rankings/{more['id']}", 200) == cancelled
    assert service.call("POST", f"/v1/rankings/{more['id']}/cancel", 200) == cancelled
    done = service.ranked(dataset["id"], tiny_zoo.names)
    assert service.call("POST", f"/v1/rankings/{done['id']}/cancel", 200)["state"] == "done"
    service.call("DELETE", f"/v1/rankings/{more['id']}", 204)
    service.call("GET", f"/v1/rankings/{more['id']}", 404)
