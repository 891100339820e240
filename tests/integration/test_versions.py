"""Versions of datasets over HTTP and from the command line: what is new is taken in and embedded, nothing else."""

import csv
import hashlib
import json
from typing import Any

import pytest

from tests.helpers.pictures import class_folders, picture, tarred, zipped
from tests.helpers.service import Service, cli
from tests.helpers.zoo import TinyZoo

FILES = class_folders(each=6)


def version(service: Service, parent: str, body: object = None, *, archive: bytes | None = None, **query: str) -> dict:
    """Asks for a version and has it made."""
    path = f"/v1/datasets/{parent}/versions"
    if archive is None:
        made = service.call("POST", path, 202, json=body, params=query)
    else:
        made = service.call("POST", path, 202, content=archive, params=query)
    assert made["state"] == "checking"
    service.work(subjects=[made["id"]])
    view = service.call("GET", f"/v1/datasets/{made['id']}")
    assert view["state"] == "sealed", view
    return view


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def embedded_rows(service: Service) -> int:
    return sum(path.stat().st_size // 32 for path in service.files("segments") if path.suffix == ".hashes")


def numbers(view: dict[str, Any]) -> tuple[int, int, int]:
    return tuple(view["changes"][key] for key in ("added", "removed", "relabelled"))


def test_a_version_embeds_what_is_new_and_relabelling_embeds_nothing(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[1:2])
    names = tiny_zoo.names[1:2]
    parent = service.sealed(zipped(FILES))
    first = service.ranked(parent["id"], names, estimators=["logme"])
    assert embedded_rows(service) == len(FILES)
    blobs = len(service.files("blobs"))

    relabelled = version(service, parent["id"], {"relabel": {"ash/0.png": "birch", sha(FILES["ash/1.png"]): "oak"}})
    assert numbers(relabelled) == (0, 0, 2)
    assert relabelled["changes"]["new_classes"] == ["oak"]
    assert relabelled["parent_id"] == parent["id"]
    assert relabelled["changes"]["parent_fingerprint"] == parent["fingerprint"]
    assert relabelled["name"] == "trees v2"
    assert relabelled["n_images"] == parent["n_images"]
    again = service.ranked(relabelled["id"], names, estimators=["logme"])
    assert embedded_rows(service) == len(FILES)
    assert again["entries"][0]["scores"]["logme"]["value"] != first["entries"][0]["scores"]["logme"]["value"]

    new = {"ash/new.png": picture(0, 901), "ash/known.png": FILES["ash/2.png"], "ash/not.png": b"no image"}
    larger = version(service, parent["id"], archive=zipped(new), name="larger")
    assert (larger["name"], numbers(larger)) == ("larger", (1, 0, 0))
    assert larger["report"]["unreadable"]["shown"][0]["name"] == "ash/not.png"
    assert larger["report"]["duplicate_copies"] == 1
    assert len(service.files("blobs")) == blobs + 1
    service.ranked(larger["id"], names, estimators=["logme"])
    assert embedded_rows(service) == len(FILES) + 1

    smaller = version(service, larger["id"], {"remove": ["ash/new.png"], "name": "as before"})
    assert numbers(smaller) == (0, 1, 0)
    assert smaller["fingerprint"] == parent["fingerprint"]
    third = service.ranked(smaller["id"], names, estimators=["logme"])
    assert third["entries"][0]["scores"] == first["entries"][0]["scores"]


def test_an_archive_of_one_class_in_any_packing_and_another_dataset_can_be_added(service: Service) -> None:
    parent = service.sealed(zipped(FILES))
    more = version(service, parent["id"], archive=tarred({"oak/1.png": picture(0, 950), "oak/2.png": picture(1, 951)}))
    assert (more["n_classes"], more["changes"]["new_classes"]) == (4, ["oak"])
    other = service.sealed(zipped({f"test/{k}": v for k, v in class_folders(each=2, seed=7).items()}), name="other")
    both = version(service, parent["id"], {"add": other["id"], "remove": ["cedar/0.png"]})
    assert numbers(both) == (6, 1, 0)
    assert both["report"]["splits"] == {"train": 17, "test": 6}


def test_what_contradicts_the_parent_is_left_out_of_both(service: Service) -> None:
    parent = service.sealed(zipped(FILES))
    view = version(service, parent["id"], archive=zipped({"birch/x.png": FILES["ash/0.png"]}))
    assert numbers(view) == (0, 1, 0)
    assert view["report"]["conflicts"]["shown"][0]["labels"] == ["ash", "birch"]


def test_the_same_changes_are_one_version(service: Service) -> None:
    parent = service.sealed(zipped(FILES))
    body = {"remove": ["ash/0.png", "ash/1.png"]}
    first = version(service, parent["id"], body)
    path = f"/v1/datasets/{parent['id']}/versions"
    turned = {"remove": ["ash/1.png", "ash/0.png"], "name": "other name"}
    assert service.call("POST", path, 200, json=turned)["id"] == first["id"]
    archive = zipped({"ash/new.png": picture(0, 960)})
    made = version(service, parent["id"], archive=archive)
    assert service.call("POST", path, 200, content=archive)["id"] == made["id"]
    assert service.files("uploads") == []


def test_a_removed_parent_leaves_its_versions_whole(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    service.add_models(tiny_zoo.good[1:2])
    parent = service.sealed(zipped(FILES))
    child = version(service, parent["id"], {"remove": ["ash/0.png"]})
    service.call("DELETE", f"/v1/datasets/{parent['id']}", 204, params={"purge": True})
    service.work()
    view = service.call("GET", f"/v1/datasets/{child['id']}")
    assert (view["state"], view["parent_id"]) == ("sealed", None)
    assert view["changes"]["parent_name"] == "trees"
    hashes = {sha(data) for path, data in FILES.items() if path != "ash/0.png"}
    assert {path.name for path in service.files("blobs")} == hashes
    ranking = service.ranked(child["id"], tiny_zoo.names[1:2], estimators=["logme"])
    assert ranking["state"] == "done"


def test_a_version_whose_parent_goes_before_it_is_made_is_refused(service: Service) -> None:
    parent = service.sealed(zipped(FILES))
    made = service.call("POST", f"/v1/datasets/{parent['id']}/versions", 202, json={"remove": ["ash/0.png"]})
    service.call("DELETE", f"/v1/datasets/{parent['id']}", 204, params={"purge": True})
    service.work()
    view = service.call("GET", f"/v1/datasets/{made['id']}")
    assert view["state"] == "refused"
    assert "removed meanwhile" in view["problem"]["detail"]
    assert service.files("blobs", "uploads") == []


BAD: dict[str, tuple[object, int, str]] = {
    "an unknown path": ({"remove": ["ash/99.png", "oak/1.png"]}, 422, "'ash/99.png', 'oak/1.png'"),
    "an unknown hash": ({"relabel": {"0" * 64: "ash"}}, 422, "0" * 64),
    "everything removed": ({"remove": list(FILES)}, 422, "every image"),
    "one class left": ({"remove": [path for path in FILES if "ash" not in path]}, 422, "one class"),
    "both at once": ({"remove": ["ash/0.png"], "relabel": {"ash/0.png": "birch"}}, 422, "both"),
    "an empty class name": ({"relabel": {"ash/0.png": " "}}, 422, "class name"),
    "nothing": ({}, 422, "at least one change"),
    "an unknown field": ({"delete": ["ash/0.png"]}, 422, "delete"),
    "no object": (["ash/0.png"], 422, "object"),
    "a number for a path": ({"remove": [3]}, 422, "remove"),
    "a dataset that is not there": ({"add": "nowhere"}, 404, "nowhere"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_changes_are_refused_at_once(service: Service, case: str) -> None:
    body, status, said = BAD[case]
    parent = service.sealed(zipped(FILES))
    problem = service.call("POST", f"/v1/datasets/{parent['id']}/versions", status, json=body)
    assert said in problem["detail"]
    assert problem["status"] == status
    assert service.files("uploads") == []
    assert len(service.call("GET", "/v1/datasets")["items"]) == 1


def test_other_bad_requests(service: Service) -> None:
    parent = service.sealed(zipped(FILES))
    path = f"/v1/datasets/{parent['id']}/versions"
    headers = {"Content-Type": "application/json"}
    assert "JSON" in service.call("POST", path, 422, content=b"{not json", headers=headers)["detail"]
    assert service.call("POST", path, 415, content=b"no archive")["type"] == "/problems/unknown-format"
    assert service.call("POST", path, 422, content=zipped({"readme.txt": b"x"}))["type"] == "/problems/no-images"
    service.call("POST", "/v1/datasets/nowhere/versions", 404, json={"remove": ["x"]})
    checking = service.upload(zipped(class_folders(seed=3)), name="new")
    refused = service.call("POST", f"/v1/datasets/{checking['id']}/versions", 409, json={"remove": ["x"]})
    assert "still being checked" in refused["detail"]
    assert len(service.files("uploads")) == 1


def test_the_command_line_makes_versions(service: Service, tmp_path) -> None:
    parent = service.sealed(zipped(FILES))
    (tmp_path / "more.zip").write_bytes(zipped({"oak/1.png": picture(0, 970), "oak/2.png": picture(0, 971)}))
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], ["ash/1.png", "birch"]])
    (tmp_path / "gone.txt").write_text("ash/2.png\n\nash/3.png\n")
    words = ["datasets", "version", parent["id"], "--add", str(tmp_path / "more.zip"), "--relabel"]
    words += [str(tmp_path / "labels.csv"), "--remove", str(tmp_path / "gone.txt"), "--remove", "ash/4.png", "--json"]
    done = cli(service.settings, *words, "--name", "mine")
    assert done.returncode == 0, done.stderr
    view = json.loads(done.stdout)
    assert (view["name"], view["state"], numbers(view)) == ("mine", "sealed", (2, 3, 1))
    assert (tmp_path / "more.zip").exists()
    assert service.files("uploads") == []
    again = cli(service.settings, *words)
    assert json.loads(again.stdout)["id"] == view["id"]
    plain = cli(service.settings, *words[:-1])
    assert "2 added, 3 removed, 1 relabelled" in plain.stdout
    for bad, said, status in (
        (["--remove", "nowhere.png"], "nowhere.png", 3),
        ([], "at least one", 2),
        (["--add", str(tmp_path / "missing.zip")], "nothing at", 4),
        (["--relabel", str(tmp_path / "gone.txt")], "path,label", 3),
    ):
        failed = cli(service.settings, "datasets", "version", parent["id"], *bad)
        assert failed.returncode == status
        assert said in failed.stderr
