"""Work that takes its process with it, in the service: its neighbours get their answers, and it a clear one."""

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from PIL import Image

from service.executors.local import LocalExecutor
from service.worker.loop import run
from service.worker.performing import start
from service.worker.places import Places, in_this_process
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.work import DEADLY, start_deadly
from tests.helpers.zoo import TinyZoo

pytestmark = pytest.mark.filterwarnings("ignore:Image size")


@contextmanager
def apart(service: Service, executor: LocalExecutor) -> Iterator[Callable[[], None]]:
    """Works until nothing is left, what computes and what reads archives in a process of its own."""
    here = in_this_process(service.worker).here
    places = Places(here, confined=executor, computing=executor)

    def work() -> None:
        def idle() -> bool:
            return not {state for _, state, _ in service.tasks()} & {"queued", "running"}

        run(service.worker, threading.Event(), places=places, finished=idle)

    try:
        yield work
    finally:
        executor.close()


def test_a_model_that_kills_its_process_fails_alone(make_service: Callable[..., Service], tiny_zoo: TinyZoo) -> None:
    service = make_service(worker={"max_attempts": 2})
    models = service.add_models(tiny_zoo.good)
    dataset = service.sealed()
    (service.data_dir / DEADLY).write_text(models[1]["id"])
    made = service.call("POST", "/v1/rankings", 202, json={"dataset": dataset["id"], "models": tiny_zoo.names})
    with apart(service, LocalExecutor(start_deadly, service.settings)) as work:
        work()
    done = service.call("GET", f"/v1/rankings/{made['id']}")
    assert done["state"] == "done"
    states = {entry["model_id"]: entry["state"] for entry in done["entries"]}
    assert states == {models[0]["id"]: "done", models[1]["id"]: "failed", models[2]["id"]: "done"}
    (failed,) = (entry for entry in done["entries"] if entry["state"] == "failed")
    assert failed["error"] == "The process that worked on it ended by signal SIGSEGV."
    # Once with its neighbours, then each alone: the others once, it twice.
    assert sorted(state for _, state, _ in service.tasks(kind="embed")) == ["done", "done", "done", "failed"]


def test_a_dataset_that_kills_its_process_is_refused_and_the_next_is_taken_in(
    make_service: Callable[..., Service],
) -> None:
    service = make_service(worker={"max_attempts": 2})
    bad = service.upload(zipped(class_folders(seed=1)), name="bad")
    good = service.upload(zipped(class_folders(seed=2)), name="good")
    (service.data_dir / DEADLY).write_text(bad["id"])
    with apart(service, LocalExecutor(start_deadly, service.settings)) as work:
        work()
    refused = service.call("GET", f"/v1/datasets/{bad['id']}")
    assert refused["state"] == "refused"
    assert refused["problem"]["type"] == "/problems/too-costly"
    assert "ended by signal SIGSEGV" in refused["problem"]["detail"]
    assert service.call("GET", f"/v1/datasets/{good['id']}")["state"] == "sealed"
    assert service.files("uploads") == []


def test_an_image_beyond_all_memory_refuses_its_dataset(
    make_service: Callable[..., Service],
) -> None:
    service = make_service()
    flat = io.BytesIO()
    Image.new("RGB", (10_900, 10_900)).save(flat, "PNG", compress_level=1)
    files = class_folders(seed=1)
    bomb = service.upload(zipped(files | {"ash/flat.png": flat.getvalue()}), name="bomb")
    good = service.upload(zipped(files), name="good")
    with apart(service, LocalExecutor(start, service.settings, memory_bytes=540 * 2**20)) as work:
        work()
    refused = service.call("GET", f"/v1/datasets/{bomb['id']}")
    assert refused["state"] == "refused"
    assert refused["problem"]["type"] in {"/problems/image-bomb", "/problems/too-costly"}
    assert "memory" in refused["problem"]["detail"]
    assert service.call("GET", f"/v1/datasets/{good['id']}")["state"] == "sealed"
