"""A dataset sharded over a cluster of two nodes, of which one is killed in the middle: the scores are one process's."""

from pathlib import Path

import pytest
from sqlalchemy import select

from service.core.settings import ExecutorSettings
from service.jobs.tables import TaskRow, WorkerRow
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.ray_cluster import two_nodes
from tests.helpers.service import Service, process, running, settings_for, wait_until
from tests.helpers.zoo import TinyZoo

RELATIVE = 1e-6
ESTIMATORS = ["logme", "gbc", "knn"]
COPIES = 2
MODELS = 3 * COPIES


def nodes_by_model(service: Service, ranking: str) -> dict[str, set[str]]:
    """The nodes that shards of each model ran on."""
    found: dict[str, set[str]] = {}
    with service.database.read() as session:
        query = select(TaskRow.payload, TaskRow.progress).where(TaskRow.subject_id == ranking, TaskRow.kind == "embed")
        for payload, progress in session.execute(query):
            if "shard" in payload and "node" in progress:
                found.setdefault(payload["models"][0], set()).add(progress["node"])
    return found


def test_a_ranking_survives_the_loss_of_a_node(tmp_path: Path, tiny_zoo: TinyZoo) -> None:
    settings = settings_for(
        tmp_path / "data", None, worker={"models_per_task": 1, "images_per_task": 100, "decode_threads": 1}
    )
    archive = zipped(class_folders(each=60))
    with two_nodes(tmp_path / "cluster.log") as cluster, running(settings) as service:
        for model in tiny_zoo.good:
            for copy in range(COPIES):
                renamed = model.request(name=f"{model.name}.{copy}", crop_pct=1 - copy / 100)
                service.call("POST", "/v1/models", 201, json=renamed)
        service.work()
        dataset = service.sealed(archive)
        chosen = settings.model_copy(update={"executor": ExecutorSettings(kind="ray", address=cluster.address)})
        log = tmp_path / "worker.log"
        with process(chosen, log, "service.worker") as worker:
            request = {"dataset": dataset["id"], "models": {"name": "tiny_*"}, "estimators": ESTIMATORS}
            ident = service.call("POST", "/v1/rankings", 202, json=request)["id"]
            wait_until(
                lambda: service.call("GET", f"/v1/rankings/{ident}")["progress"]["models_done"] >= 1,
                seconds=90,
                why="the first model is done",
            )
            wait_until(
                lambda: 2 in map(len, nodes_by_model(service, ident).values()),
                seconds=30,
                why="both nodes had shards of one model",
            )
            cluster.kill_a_node()
            at_the_loss = service.call("GET", f"/v1/rankings/{ident}")["progress"]["models_done"]
            wait_until(
                lambda: service.call("GET", f"/v1/rankings/{ident}")["state"] in {"done", "failed"},
                seconds=120,
                why="the ranking ends",
            )
            with service.database.read() as session:
                assert set(session.scalars(select(WorkerRow.device))) >= {"ray"}
            worker.terminate()
            worker.wait(timeout=30)
        over_ray = service.call("GET", f"/v1/rankings/{ident}")
    assert at_the_loss < MODELS
    assert [entry["state"] for entry in over_ray["entries"]] == ["done"] * MODELS
    alone = settings_for(tmp_path / "alone", None, worker={"decode_threads": 1})
    with running(alone) as service:
        for model in tiny_zoo.good:
            for copy in range(COPIES):
                renamed = model.request(name=f"{model.name}.{copy}", crop_pct=1 - copy / 100)
                service.call("POST", "/v1/models", 201, json=renamed)
        service.work()
        here = service.ranked(service.sealed(archive)["id"], {"name": "tiny_*"}, estimators=ESTIMATORS)
    wanted = {entry["model"]: entry["scores"] for entry in here["entries"]}
    for entry in over_ray["entries"]:
        for name, score in entry["scores"].items():
            assert score["value"] == pytest.approx(wanted[entry["model"]][name]["value"], rel=RELATIVE)
