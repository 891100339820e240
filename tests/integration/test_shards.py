"""A large dataset is dealt into shards, tasks of their own: whoever scores merges what they left."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import delete, select

from service.jobs.tables import TaskRow
from service.scoring.tables import ScoreRow
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, running, settings_for
from tests.helpers.zoo import TinyZoo

ESTIMATORS = ["logme", "h_score", "gbc", "ped_gbc", "lda", "knn", "leep"]
IMAGES = 90
RELATIVE = 1e-9


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo) -> Iterator[Service]:
    settings = settings_for(tmp_path_factory.mktemp("shards"), None, worker={"images_per_task": 40})
    with running(settings) as made:
        made.add_models(tiny_zoo.good)
        reference = made.sealed(zipped(class_folders(each=4, seed=9)), name="generic")
        made.call("PUT", "/v1/reference", json={"dataset": reference["id"]})
        yield made


def whole(service: Service) -> Service:
    """The same service, where tasks take all images."""
    settings = service.settings
    worker = settings.worker.model_copy(update={"images_per_task": 20_000})
    return replace(service, worker=replace(service.worker, settings=settings.model_copy(update={"worker": worker})))


def embed_tasks(service: Service, ranking: str) -> list[dict[str, object]]:
    with service.database.read() as session:
        query = select(TaskRow.payload).where(TaskRow.subject_id == ranking, TaskRow.kind == "embed")
        return list(session.scalars(query.order_by(TaskRow.created_at, TaskRow.id)))


def forget_scores(service: Service) -> None:
    with service.database.write() as session:
        session.execute(delete(ScoreRow))


def assert_same(one: dict, other: dict) -> None:
    wanted = {entry["model"]: entry["scores"] for entry in other["entries"]}
    assert {entry["model"] for entry in one["entries"]} == wanted.keys()
    for entry in one["entries"]:
        assert entry["state"] == "done"
        for name, score in entry["scores"].items():
            expected = wanted[entry["model"]][name]
            if expected["value"] is None:
                assert score["value"] is None, name
            else:
                assert score["value"] == pytest.approx(expected["value"], rel=RELATIVE), name
                assert score["stderr"] == pytest.approx(expected["stderr"], rel=1e-6), name
            assert score["degenerate"] == expected["degenerate"]


def test_scores_of_shards_are_those_of_the_whole_from_the_same_features(service: Service) -> None:
    dataset = service.sealed(zipped(class_folders(each=IMAGES // 3)))
    request = {"estimators": ESTIMATORS, "models": {"name": "tiny_*"}}
    sharded = service.ranked(dataset["id"], **request)
    payloads = embed_tasks(service, sharded["id"])
    assert [payload.get("shard") for payload in payloads] == [0, 1, 2, 3, 4, None]
    assert sharded["progress"]["images_embedded"] == sharded["progress"]["images_to_embed"] == 3 * (IMAGES + 12)
    assert service.files("moments") == []
    forget_scores(service)
    at_once = whole(service).ranked(dataset["id"], **request)
    assert [payload.get("shards") for payload in embed_tasks(service, at_once["id"])] == [None]
    assert_same(sharded, at_once)


def test_a_model_that_fails_in_a_shard_costs_no_other_its_scores(service: Service, tiny_zoo: TinyZoo) -> None:
    service.call("POST", "/v1/models", 201, json=tiny_zoo.truncated.request())
    dataset = service.sealed(zipped(class_folders(each=31)))
    view = service.ranked(dataset["id"], {"name": "tiny_*"}, estimators=["logme"])
    assert view["state"] == "done"
    assert sorted((entry["model"], entry["state"]) for entry in view["entries"]) == [
        ("tiny_efficientnet.a", "done"),
        ("tiny_half.a", "failed"),
        ("tiny_resnet.a", "done"),
        ("tiny_resnet.b", "done"),
    ]


def test_the_rungs_of_a_race_are_dealt_as_well(service: Service, tiny_zoo: TinyZoo) -> None:
    dataset = service.sealed(zipped(class_folders(each=70, seed=4)))  # rungs of 96 and of all 210
    request = {"models": [model.name for model in tiny_zoo.good], "budget": "100000img"}
    raced = service.ranked(dataset["id"], **request)
    assert [rung["sample"] for rung in raced["race"]["rungs"]][:2] == [96, 210]
    payloads = embed_tasks(service, raced["id"])
    dealt = [(payload["sample"], payload.get("shards"), payload.get("shard")) for payload in payloads]
    assert dealt == [(96, 5, shard) for shard in (0, 1, 2, 3, 4, None)] + [
        (210, 10, shard) for shard in (*range(10), None)
    ]
    assert service.files("moments") == []
    forget_scores(service)
    at_once = whole(service).ranked(dataset["id"], **request)
    assert {payload.get("shards") for payload in embed_tasks(service, at_once["id"])} == {None}
    assert [rung["sample"] for rung in at_once["race"]["rungs"]] == [96, 210]
    assert_same(raced, at_once)
