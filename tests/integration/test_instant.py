"""The answer for a new dataset before any candidate has run."""

from tests.helpers.pictures import CLASSES, class_folders, picture, zipped
from tests.helpers.service import Service, cli
from tests.helpers.zoo import TinyZoo


def noisy(seed: int) -> bytes:
    """Another kind of image: the same patterns under heavy noise."""
    names = {f"{name}/{i}.png": (label, i) for label, name in enumerate(CLASSES) for i in range(20)}
    return zipped({path: picture(label, seed * 1000 + i, noise=400.0) for path, (label, i) in names.items()})


def test_outcomes_on_datasets_like_it_count_for_more(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good)
    clear = service.sealed(zipped(class_folders(each=20, seed=1)), name="clear")
    rough = service.sealed(noisy(2), name="rough")
    for known in (clear, rough):
        service.call("POST", f"/v1/datasets/{known['id']}/signature", 202)
    service.work()
    first, second = tiny_zoo.names[:2]
    for dataset, best, worst in ((clear, first, second), (rough, second, first)):
        for model, accuracy in ((best, 0.9), (worst, 0.5), (tiny_zoo.names[2], 0.2)):
            body = {"dataset": dataset["id"], "model": model, "accuracy": accuracy}
            service.call("POST", "/v1/outcomes", 201, json=body)
    for name, archive, like, model in (
        ("new and clear", zipped(class_folders(each=20, seed=3)), clear, first),
        ("new and rough", noisy(4), rough, second),
    ):
        new = service.sealed(archive, name=name)
        path = f"/v1/datasets/{new['id']}"
        service.call("GET", f"{path}/signature", 404)
        service.call("POST", f"{path}/signature", 202)
        service.work()
        found = service.call("GET", f"{path}/signature")
        assert (found["state"], found["images"]) == ("done", 60)
        assert found["similar"][0]["dataset_id"] == like["id"]
        assert new["id"] not in {each["dataset_id"] for each in found["similar"]}
        assert service.call("POST", f"{path}/signature", 200)["similar"] == found["similar"]
        answer = service.call("GET", f"{path}/recommendations")
        assert (answer["ordered_by"], answer["ranking"]) == ("prior", None)
        assert answer["entries"][0]["model"] == model
        assert any(f"Most like {like['name']}" in line for line in answer["said"])
        view = service.ranked(new["id"], tiny_zoo.names)
        refined = service.call("GET", f"{path}/recommendations")
        assert refined["ranking"] == view["id"]
        assert not any("Most like" in line for line in refined["said"])


def test_signatures_outlive_a_collection(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed()
    service.call("POST", f"/v1/datasets/{dataset['id']}/signature", 202)
    service.work()
    kept = service.files("segments")
    spare = service.sealed(zipped(class_folders(seed=8)), name="spare")["id"]
    service.call("DELETE", f"/v1/datasets/{spare}", 204, params={"purge": True})
    service.work()
    assert set(kept) <= set(service.files("segments"))


def test_without_a_model_at_hand_nothing_looks(service: Service) -> None:
    dataset = service.sealed()["id"]
    answer = service.call("POST", f"/v1/datasets/{dataset}/signature", 409)
    assert "zooscout models add" in answer["detail"]
    done = cli(service.settings, "recommend", dataset, "--json")
    assert done.returncode == 0, done.stderr


def test_a_dataset_is_compared_anew_once_others_have_been_looked_at(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    first = f"/v1/datasets/{service.sealed(name='first')['id']}/signature"
    service.call("POST", first, 202)
    service.work()
    assert service.call("POST", first, 200)["known"] == 0
    for seed in (5, 6):
        other = service.sealed(zipped(class_folders(seed=seed)), name=f"other {seed}")
        service.call("POST", f"/v1/datasets/{other['id']}/signature", 202)
        service.work()
        nearest = service.call("GET", f"/v1/datasets/{other['id']}/signature")["similar"]
        assert len(nearest) == (0 if seed == 5 else 2)  # one other alone is neither near nor far
    service.call("POST", first, 202)
    service.work()
    again = service.call("POST", first, 200)
    assert (again["known"], len(again["similar"])) == (2, 2)
