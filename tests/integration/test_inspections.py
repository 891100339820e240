"""Inspections and neighbours over HTTP, from the command line and on the page, with a real tiny model."""

import hashlib
import io
import json
import subprocess
import sys
import threading
import time

import pytest
from PIL import Image

from service.client import Client
from service.datasets.schemas import VersionCreate
from tests.helpers.pictures import class_folders, picture, zipped
from tests.helpers.service import ROOT, Service, cli
from tests.helpers.zoo import TinyZoo


def reencoded(data: bytes) -> bytes:
    """Other bytes, the same pixels."""
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "BMP")
    return out.getvalue()


def with_findings() -> dict[str, bytes]:
    """A near-copy inside the training split, one in the test split, an identical leak and a wrong label."""
    files = {f"train/{path}": data for path, data in class_folders(each=14).items()}
    files |= {f"test/{path}": data for path, data in class_folders(each=4, seed=5).items()}
    files["train/ash/copy.bmp"] = reencoded(files["train/ash/0.png"])
    files["test/birch/copy.bmp"] = reencoded(files["train/birch/1.png"])
    files["test/ash/same.png"] = files["train/ash/2.png"]
    files["train/cedar/wrong.png"] = picture(0, 4242)
    return files


FILES = with_findings()


@pytest.fixture
def inspected(service: Service, tiny_zoo: TinyZoo) -> tuple[Service, dict, dict]:
    service.add_models(tiny_zoo.good[1:2])
    dataset = service.sealed(zipped(FILES), name="odd")
    made = service.call("POST", f"/v1/datasets/{dataset['id']}/inspections", 202, json={"model": tiny_zoo.names[1]})
    assert made["state"] == "queued"
    service.work()
    view = service.call("GET", f"/v1/inspections/{made['id']}")
    assert view["state"] == "done", view
    return service, dataset, view


def test_an_inspection_finds_copies_leaks_and_a_wrong_label(inspected) -> None:
    service, dataset, view = inspected
    result = view["result"]
    distinct = {hashlib.sha256(data).digest() for data in FILES.values()}
    assert (result["images"], result["exact"], result["index"]) == (len(distinct), True, "flat")
    groups = [{image["path"] for image in group["images"]} for group in result["near_copies"]["shown"]]
    assert any({"train/ash/0.png", "train/ash/copy.bmp"} <= group for group in groups)
    leaks = {leak["image"]["path"]: leak for leak in result["leaks"]["shown"]}
    assert leaks["test/ash/same.png"]["identical"]
    assert leaks["test/ash/same.png"]["in_train"]["path"] == "train/ash/2.png"
    assert leaks["test/birch/copy.bmp"]["in_train"]["path"] == "train/birch/1.png"
    assert not leaks["test/birch/copy.bmp"]["identical"]
    assert leaks["test/birch/copy.bmp"]["similarity"] > 0.999
    wrong = {row["image"]["path"]: row for row in result["label_errors"]["shown"]}
    assert wrong["train/cedar/wrong.png"]["suggested"] == "ash"
    brief = service.call("GET", f"/v1/datasets/{dataset['id']}")["inspections"]
    assert [(one["id"], one["state"]) for one in brief] == [(view["id"], "done")]
    assert brief[0]["found"] == {kind: result[kind]["total"] for kind in ("near_copies", "leaks", "label_errors")}
    assert view["extractor_id"]


def test_it_embeds_each_distinct_image_once_and_a_second_one_embeds_nothing(inspected, tiny_zoo: TinyZoo) -> None:
    service, dataset, first = inspected
    segments = service.files("segments")
    rows = sum(path.stat().st_size // 32 for path in segments if path.suffix == ".hashes")
    assert rows == first["result"]["images"]
    path = f"/v1/datasets/{dataset['id']}/inspections"
    made = service.call("POST", path, 202, json={"model": tiny_zoo.names[1]})
    assert service.call("POST", path, 200, json={"model": tiny_zoo.names[1]})["id"] == made["id"]
    service.work()
    again = service.call("GET", f"/v1/inspections/{made['id']}")
    assert again["result"] == first["result"]
    assert service.files("segments") == segments
    assert [one["id"] for one in service.call("GET", f"/v1/datasets/{dataset['id']}")["inspections"]] == [made["id"]]


def test_a_map_has_every_image_that_the_model_has_embedded(inspected, tiny_zoo: TinyZoo) -> None:
    service, dataset, *_ = inspected
    path = f"/v1/datasets/{dataset['id']}/map"
    found = service.call("GET", path, params={"model": tiny_zoo.names[1]})
    assert len(found["points"]) == found["embedded"] > 20
    assert {point["label"] for point in found["points"]} == set(dataset["classes"])
    assert 1 >= sum(found["shares"]) > found["shares"][0] > found["shares"][1] > 0
    other = service.sealed(zipped(class_folders(each=3, seed=77)), name="never ranked")
    problem = service.call("GET", f"/v1/datasets/{other['id']}/map", 409, params={"model": tiny_zoo.names[1]})
    assert "rank it on the dataset first" in problem["detail"]


def test_neighbours_by_path_and_by_hash(inspected, tiny_zoo: TinyZoo) -> None:
    service, dataset, _ = inspected
    path = f"/v1/datasets/{dataset['id']}/neighbours"
    by_path = service.call("GET", path, params={"model": tiny_zoo.names[1], "image": "train/ash/copy.bmp", "k": 3})
    assert by_path["neighbours"][0]["path"] == "train/ash/0.png"
    assert by_path["neighbours"][0]["similarity"] == pytest.approx(1.0, abs=1e-6)
    assert len(by_path["neighbours"]) == 3
    assert by_path["image"]["label"] == "ash"
    assert (by_path["exact"], by_path["searched"]) == (True, by_path["images"])
    digest = hashlib.sha256(FILES["train/ash/copy.bmp"]).hexdigest()
    by_hash = service.call("GET", path, params={"model": tiny_zoo.names[1], "image": digest, "k": 3})
    assert by_hash == by_path
    everything = service.call("GET", path, params={"model": tiny_zoo.names[1], "image": digest, "k": 200})
    assert len(everything["neighbours"]) == everything["images"] - 1


def test_neighbours_of_what_is_not_embedded_say_what_to_do(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[1:2])
    dataset = service.sealed(zipped(FILES), name="odd")
    path, name = f"/v1/datasets/{dataset['id']}/neighbours", tiny_zoo.names[1]
    nothing = service.call("GET", path, 409, params={"model": name, "image": "train/ash/0.png"})
    assert nothing["type"] == "/problems/embeddings-missing"
    assert f"/v1/datasets/{dataset['id']}/inspections" in nothing["detail"]
    service.ranked(dataset["id"], [name], estimators=["logme"])  # embeds the training split
    found = service.call("GET", path, params={"model": name, "image": "train/ash/0.png"})
    assert found["searched"] < found["images"]
    assert all(other["split"] == "train" for other in found["neighbours"])
    assert (
        "has not embedded"
        in service.call("GET", path, 409, params={"model": name, "image": "test/ash/0.png"})["detail"]
    )
    service.call("GET", path, 404, params={"model": name, "image": "train/ash/99.png"})
    service.call("GET", path, 404, params={"model": "nowhere", "image": "train/ash/0.png"})
    service.call("GET", path, 422, params={"model": name, "image": "train/ash/0.png", "k": 0})
    service.call("GET", path, 422, params={"model": name})


def test_bad_requests(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[1:2])
    dataset = service.sealed(zipped(FILES), name="odd")
    path = f"/v1/datasets/{dataset['id']}/inspections"
    service.call("POST", path, 404, json={"model": "nowhere"})
    service.call("POST", path, 422, json={})
    service.call("POST", "/v1/datasets/nowhere/inspections", 404, json={"model": tiny_zoo.names[1]})
    service.call("GET", "/v1/inspections/nowhere", 404)
    checking = service.upload(zipped(class_folders(seed=3)), name="new")
    answer = service.call("POST", f"/v1/datasets/{checking['id']}/inspections", 409, json={"model": tiny_zoo.names[1]})
    assert "still being checked" in answer["detail"]


def test_a_model_that_cannot_be_loaded_fails_the_inspection_with_its_reason(
    service: Service, tiny_zoo: TinyZoo
) -> None:
    service.call("POST", "/v1/models", 201, json=tiny_zoo.missing.request())
    service.work()
    dataset = service.sealed(zipped(FILES), name="odd")
    made = service.call("POST", f"/v1/datasets/{dataset['id']}/inspections", 202, json={"model": tiny_zoo.missing.name})
    service.work()
    view = service.call("GET", f"/v1/inspections/{made['id']}")
    assert (view["state"], view["result"]) == ("failed", None)
    assert "WeightsNotFound" in view["error"]["detail"]
    assert "WeightsNotFound" in service.client.get(f"/datasets/{dataset['id']}").text


def test_an_inspection_goes_with_its_dataset(each_service: Service, tiny_zoo: TinyZoo) -> None:
    each_service.add_models(tiny_zoo.good[1:2])
    dataset = each_service.sealed(zipped(FILES), name="odd")
    path = f"/v1/datasets/{dataset['id']}/inspections"
    done = each_service.call("POST", path, 202, json={"model": tiny_zoo.names[1]})
    each_service.work()
    queued = each_service.call("POST", path, 202, json={"model": tiny_zoo.names[1]})
    each_service.call("DELETE", f"/v1/datasets/{dataset['id']}", 204, params={"purge": True})
    each_service.work()
    for one in (done, queued):
        each_service.call("GET", f"/v1/inspections/{one['id']}", 404)
    assert each_service.files("segments", "blobs") == []


def test_the_page_shows_versions_and_findings_and_escapes_names(inspected) -> None:
    service, dataset, _ = inspected
    body = {"remove": ["train/ash/0.png"], "relabel": {"train/cedar/wrong.png": "<b>oak"}, "name": "<i>odd 2"}
    child = service.call("POST", f"/v1/datasets/{dataset['id']}/versions", 202, json=body)
    service.work()
    page = service.client.get(f"/datasets/{dataset['id']}").text
    assert "train/cedar/wrong.png" in page
    assert "test/birch/copy.bmp" in page
    assert "&lt;i&gt;odd 2" in page
    assert "<i>" not in page
    made = service.client.get(f"/datasets/{child['id']}").text
    assert f'href="/datasets/{dataset["id"]}"' in made
    assert "1 removed, 1 relabelled" in made
    assert "<b>oak" not in made


def test_the_command_line_inspects(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[1:2])
    dataset = service.sealed(zipped(FILES), name="odd")
    model = tiny_zoo.names[1]
    early = cli(service.settings, "datasets", "neighbours", "odd", "train/ash/0.png", "--model", model)
    assert early.returncode == 5
    assert "datasets inspect" in early.stderr
    done = cli(service.settings, "datasets", "inspect", "odd", "--model", model, "--json")
    assert done.returncode == 0, done.stderr
    view = json.loads(done.stdout)
    assert view == service.call("GET", f"/v1/inspections/{view['id']}")
    assert view["dataset_id"] == dataset["id"]
    shown = json.loads(cli(service.settings, "datasets", "show", "odd").stdout)
    assert [one["id"] for one in shown["inspections"]] == [view["id"]]
    plain = cli(service.settings, "datasets", "inspect", "odd", "--model", model)
    assert "train/cedar/wrong.png" in plain.stdout
    assert "groups of near-copies" in plain.stdout
    near = cli(service.settings, "datasets", "neighbours", "odd", "train/ash/copy.bmp", "--model", model, "-k", "2")
    assert "train/ash/0.png" in near.stdout
    missing = cli(service.settings, "datasets", "inspect", "odd", "--model", "nowhere")
    assert missing.returncode == 4
    assert "nowhere" in missing.stderr


def test_the_api_needs_no_torch_to_find_neighbours(inspected, tiny_zoo: TinyZoo) -> None:
    service, dataset, _ = inspected
    code = (
        "import sys; from starlette.testclient import TestClient; from service.api.app import create_app\n"
        "from service.core.settings import Settings\n"
        f"app = create_app(Settings(data_dir={str(service.data_dir)!r}, log_level='error'))\n"
        "with TestClient(app, base_url='http://127.0.0.1') as client:\n"
        "    assert 'faiss' not in sys.modules\n"
        f"    answer = client.get('/v1/datasets/{dataset['id']}/neighbours', "
        f"params={{'model': '{tiny_zoo.names[1]}', 'image': 'train/ash/0.png'}})\n"
        "    assert answer.status_code == 200, answer.text\n"
        "print(sorted(name for name in ('torch', 'timm', 'sklearn') if name in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_client_makes_versions_inspects_and_finds_neighbours(service: Service, tiny_zoo: TinyZoo, tmp_path) -> None:
    service.add_models(tiny_zoo.good[1:2])
    dataset = service.sealed(zipped(FILES), name="odd")
    client = Client("http://testserver")
    client._http = service.client
    (tmp_path / "more.zip").write_bytes(zipped({"train/ash/more.png": picture(0, 31)}))
    added = client.make_version(dataset["id"], tmp_path / "more.zip", name="more")
    smaller = client.make_version(dataset["id"], VersionCreate(remove=["train/ash/0.png"]), name="less")
    asked = service.call("POST", f"/v1/datasets/{dataset['id']}/inspections", 202, json={"model": tiny_zoo.names[1]})
    service.work()
    assert (client.dataset(added.id).name, client.dataset(added.id).changes["added"]) == ("more", 1)
    assert (client.dataset(smaller.id).name, client.dataset(smaller.id).changes["removed"]) == ("less", 1)
    found = client.neighbours(dataset["id"], "train/ash/copy.bmp", model=tiny_zoo.names[1], k=1)
    assert found.neighbours[0].path == "train/ash/0.png"
    worker = threading.Thread(target=lambda: (time.sleep(0.5), service.work()))
    worker.start()
    view = client.inspect(dataset["id"], tiny_zoo.names[1], timeout_seconds=60)
    worker.join()
    assert view.state == "done"
    assert view.id != asked["id"]
