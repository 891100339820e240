"""Bad archives over HTTP: each refused under its own name, at once or once a worker looked, and nothing of it kept."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from service.api.problems import status_of
from service.datasets.limits import Limits
from tests.data.archives import GOOD, REFUSED, Refused, class_folders, zip_bytes
from tests.helpers.service import Service

OVER_HTTP = {name: case for name, case in REFUSED.items() if not name.startswith(("folder", "empty folder"))}
CONFIGURABLE = {
    "max_upload_bytes",
    "max_entries",
    "max_unpacked_bytes",
    "max_ratio",
    "ratio_floor_bytes",
    "max_image_bytes",
    "max_image_pixels",
}


def changed(case: Refused) -> dict[str, object]:
    usual = Limits()
    return {
        field.name: getattr(case.limits, field.name)
        for field in dataclasses.fields(Limits)
        if getattr(case.limits, field.name) != getattr(usual, field.name)
    }


def by_limits() -> dict[str, tuple[dict[str, object], dict[str, Refused]]]:
    """One service serves all cases under the same limits."""
    groups: dict[str, tuple[dict[str, object], dict[str, Refused]]] = {}
    for name, case in OVER_HTTP.items():
        limits = changed(case)
        if set(limits) <= CONFIGURABLE:
            groups.setdefault(str(limits) if limits else "usual", (limits, {}))[1][name] = case
    return groups


GROUPS = by_limits()


@pytest.mark.parametrize("group", GROUPS)
def test_refused_with_its_own_problem_and_nothing_is_kept(
    make_service: Callable[..., Service], tmp_path: Path, group: str
) -> None:
    limits, cases = GROUPS[group]
    service = make_service(uploads=limits)
    for number, (name, case) in enumerate(cases.items()):
        (tmp_path / str(number)).mkdir()
        archive = case.at(tmp_path / str(number)).read_bytes()
        answer = service.client.post("/v1/datasets", params={"name": "bad"}, content=archive)
        status = status_of(case.error.slug)
        if case.decoded:
            assert answer.status_code == 202, (name, answer.text)
            service.work()
            view = service.call("GET", answer.headers["Location"])
            assert view["state"] == "refused", name
            problem = view["problem"]
            listed = service.call("GET", "/v1/datasets")["items"][0]
            assert listed["problem"] == problem
        else:
            assert answer.status_code == status, (name, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            problem = answer.json()
        assert problem["status"] == status, name
        assert problem["type"] == f"/problems/{case.error.slug}", (name, problem)
        assert case.where in problem["detail"], name
        assert service.files("uploads", "blobs", "manifests", "segments") == [], name


def test_the_corpus_reaches_the_service() -> None:
    assert sum(len(cases) for _, cases in GROUPS.values()) >= len(OVER_HTTP) - 2
    kinds = {case.error.slug for _, cases in GROUPS.values() for case in cases.values()}
    assert {"path-traversal", "link-in-archive", "nested-archive", "compression-bomb", "image-bomb"} <= kinds
    assert {"too-large", "no-labels", "one-class", "unknown-format", "empty-archive", "corrupt-archive"} <= kinds


def test_a_body_over_the_cap_is_refused_while_it_comes(make_service: Callable[..., Service]) -> None:
    service = make_service(uploads={"max_upload_bytes": 100_000})
    sent = 0

    def endless():
        nonlocal sent
        while sent < 50_000_000:
            sent += 10_000
            yield bytes(10_000)

    answer = service.client.post("/v1/datasets", content=endless())
    assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    assert service.files("uploads") == []


def test_a_refused_archive_may_be_sent_again(service: Service) -> None:
    archive = zip_bytes({"cat/1.png": b"text", "dog/1.png": b""})
    first = service.upload(archive)
    service.work()
    second = service.upload(archive)
    assert second["id"] != first["id"]


def test_the_same_archive_again_is_its_first_dataset(each_service: Service) -> None:
    archive = zip_bytes(GOOD)
    first = each_service.upload(archive, name="pets")
    assert each_service.upload(archive, name="other", status=200)["id"] == first["id"]  # while it is being checked
    each_service.work()
    again = each_service.upload(archive, name="other", status=200)
    assert (again["id"], again["name"], again["state"]) == (first["id"], "pets", "sealed")
    assert each_service.files("uploads") == []
    assert len(each_service.call("GET", "/v1/datasets")["items"]) == 1


def test_a_good_dataset_is_sealed_with_its_report(each_service: Service) -> None:
    answer = each_service.client.post(
        "/v1/datasets", params={"name": "pets"}, content=zip_bytes(GOOD), headers={"Content-Type": "application/zip"}
    )
    assert answer.status_code == 202
    assert answer.json()["state"] == "checking"
    each_service.work()
    view = each_service.call("GET", answer.headers["Location"])
    assert (view["state"], view["n_images"], view["n_classes"]) == ("sealed", len(GOOD), 2)
    assert view["classes"] == ["cat", "dog"]
    assert len(view["fingerprint"]) == 64
    assert view["report"]
    assert view["problem"] is None
    assert each_service.call("GET", "/v1/datasets/pets") == view
    assert each_service.files("uploads") == []
    assert len(each_service.files("blobs")) == len(GOOD)
    assert len(each_service.files("manifests")) == 1


def test_names_that_no_page_should_trip_over(service: Service) -> None:
    for number, name in enumerate(("ünïcode ✓", "<script>alert(1)</script>", "a/b", "%41", "x" * 200)):
        made = service.upload(zip_bytes(class_folders(f"s{number}/")), name=name)
        service.work()
        view = service.call("GET", f"/v1/datasets/{made['id']}")
        assert (view["name"], view["state"]) == (name, "sealed")
    page = service.client.get("/").text
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    for bad in ("", "x" * 201, "a\0b"):
        service.call("POST", "/v1/datasets", 422, params={"name": bad}, content=zip_bytes(GOOD))
    assert service.files("uploads") == []


def test_damage_within_an_archive_costs_its_file_alone(service: Service) -> None:
    archive = bytearray(zip_bytes(GOOD))
    at = archive.find(b"PK\3\4", 10) + 60
    archive[at : at + 20] = bytes(20)
    made = service.upload(bytes(archive))
    service.work()
    view = service.call("GET", f"/v1/datasets/{made['id']}")
    assert view["state"] == "sealed"
    assert view["n_images"] == len(GOOD) - 1
