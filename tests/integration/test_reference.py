"""The reference set over HTTP and on the command line: named, replaced, cleared, and what rankings do with it."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from service.embeddings.tables import SegmentRow
from service.scoring.tables import ScoreRow
from tests.helpers.pictures import CLASSES, class_folders, zipped
from tests.helpers.service import Service, cli
from tests.helpers.zoo import TinyZoo

PANEL = ["logme", "knn", "ped_logme", "frechet"]
NEED_IT = ("ped_logme", "frechet")
N_TARGET = len(CLASSES) * 8


def reference_archive(seed: int, *, each: int = 5) -> bytes:
    return zipped(class_folders(each=each, seed=seed, classes=("street", "shore")))


def named(service: Service, seed: int, *, each: int = 5) -> dict[str, Any]:
    dataset = service.sealed(reference_archive(seed, each=each), name=f"photographs {seed}")
    return service.call("PUT", "/v1/reference", json={"dataset": dataset["id"]})


def rows_embedded(service: Service) -> int:
    with service.database.read() as session:
        return session.scalar(select(func.sum(SegmentRow.n_rows)).where(SegmentRow.kind == "features")) or 0


def scores_stored(service: Service, estimator: str) -> int:
    with service.database.read() as session:
        return session.scalar(select(func.count()).where(ScoreRow.estimator == estimator)) or 0


def values(ranking: dict[str, Any], estimator: str) -> dict[str, float]:
    return {e["model"]: e["scores"][estimator]["value"] for e in ranking["entries"]}


def scores_of(ranking: dict[str, Any]) -> list[dict[str, Any]]:
    return [{key: entry[key] for key in ("rank", "tied_with", "model", "scores")} for entry in ranking["entries"]]


def test_naming_showing_replacing_and_clearing(each_service: Service) -> None:
    service = each_service
    assert service.call("GET", "/v1/reference", 404)["type"] == "/problems/no-reference-set"
    assert "zooscout reference set" in service.call("DELETE", "/v1/reference", 404)["detail"]
    first = named(service, 1)
    assert first["name"] == "photographs 1"
    assert first["n_images"] == 10
    assert service.call("GET", "/v1/reference") == first
    assert service.call("PUT", "/v1/reference", json={"dataset": "photographs 1"}) == first
    second = named(service, 2)
    assert second["fingerprint"] != first["fingerprint"]
    assert service.call("GET", "/v1/reference") == second
    service.call("DELETE", "/v1/reference", 204)
    service.call("GET", "/v1/reference", 404)
    service.call("PUT", "/v1/reference", 404, json={"dataset": "nothing"})
    service.call("PUT", "/v1/reference", 422, json={"dataset": first["dataset"], "more": 1})
    service.call("PUT", "/v1/reference", 422, json={"dataset": "a\0b"})
    made = service.upload(reference_archive(3), name="unchecked")
    assert service.call("PUT", "/v1/reference", 409, json={"dataset": made["id"]})["type"] == "/problems/conflict"


def test_a_ranking_shows_ped_and_frechet_beside_logme_and_knn(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    models = service.add_models(tiny_zoo.good)
    reference = named(service, 1)
    done = service.ranked(service.sealed()["id"], tiny_zoo.names)
    assert done["estimators"] == PANEL
    assert done["ordered_by"] == "logme"
    assert done["reference"] == {
        k: reference[v] for k, v in {"id": "dataset", "name": "name", "fingerprint": "fingerprint"}.items()
    }
    assert len({m["feature_dim"] for m in models}) == 2  # shown for models of any width, although not ordered by it
    for entry in done["entries"]:
        assert list(entry["scores"]) == PANEL
        assert all(score["value"] is not None for score in entry["scores"].values())
        assert entry["scores"]["ped_logme"]["diagnostics"]["background"] == "given"
        assert entry["scores"]["frechet"]["value"] > 0
    progress = done["progress"]
    assert progress["images_embedded"] == progress["images_to_embed"] == 3 * (N_TARGET + reference["n_images"])


def test_scores_are_those_of_the_stored_features(service: Service, tiny_zoo: TinyZoo) -> None:
    import hashlib

    import torch

    from estimators.evidence import Evidence
    from estimators.moments import ClassMoments
    from estimators.panel import evaluate
    from zoo.catalog import ModelCard
    from zoo.extract import load
    from zoo.preprocess import decode, prepare

    (model,) = service.add_models(tiny_zoo.good[:1])
    named(service, 1)
    dataset = service.sealed()
    estimators = ["ped_logme", "frechet", "mmd", "proxy_a_distance", "otdd"]
    scores = service.ranked(dataset["id"], [model["id"]], estimators=["logme", *estimators])["entries"][0]["scores"]
    extractor = load(ModelCard.from_json(model["card"]), device="cpu", cache_dir=service.settings.weights_cache)

    def features(files: dict[str, bytes]) -> tuple[torch.Tensor, torch.Tensor]:
        ordered = sorted(files.items(), key=lambda item: hashlib.sha256(item[1]).digest())
        pixels = torch.stack([prepare(decode(data), extractor.card.preprocess) for _, data in ordered])
        names = sorted({name.split("/")[0] for name in files})
        return extractor.forward(pixels)[0], torch.tensor([names.index(name.split("/")[0]) for name, _ in ordered])

    target, labels = features(class_folders())
    generic, classes = features(class_folders(each=5, seed=1, classes=("street", "shore")))
    evidence = Evidence(
        labels=labels, features=target, reference_features=generic,
        reference_moments=ClassMoments.from_features(generic, classes),
    )  # fmt: skip
    expected = evaluate(evidence, estimators)
    for name in estimators:
        score = expected[name].score
        assert score is not None, expected[name]
        assert scores[name]["value"] == pytest.approx(score.value, rel=1e-4), name


def test_replacing_the_reference_set_embeds_the_new_one_and_nothing_of_the_target(
    each_service: Service, tiny_zoo: TinyZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.compute import scoring

    service = each_service
    computed: list[list[str]] = []
    evaluate = scoring.evaluate

    def watched(evidence: Any, names: Any) -> Any:
        computed.append(list(names))
        return evaluate(evidence, names)

    monkeypatch.setattr(scoring, "evaluate", watched)
    service.add_models(tiny_zoo.good)
    dataset = service.sealed()["id"]
    named(service, 1)
    wanted = [*PANEL, "h_score"]
    first = service.ranked(dataset, tiny_zoo.names, estimators=wanted)
    before = rows_embedded(service)
    assert before == 3 * (N_TARGET + 10)
    assert computed == [wanted] * 3
    computed.clear()

    replaced = named(service, 2, each=4)
    second = service.ranked(dataset, tiny_zoo.names, estimators=wanted)
    assert second["progress"]["images_embedded"] == 3 * replaced["n_images"] == rows_embedded(service) - before
    assert computed == [list(NEED_IT)] * 3
    assert second["reference"]["fingerprint"] == replaced["fingerprint"]
    for name in ("logme", "knn", "h_score"):
        assert values(second, name) == values(first, name)
        assert scores_stored(service, name) == 3
    for name in NEED_IT:
        assert scores_stored(service, name) == 6
    # PED's may be equal: where no two classes overlap, nothing moves, whatever the background.
    assert all(values(second, "frechet")[model] != value for model, value in values(first, "frechet").items())
    # What was ranked stays as it was, and the reference set of before costs nothing when it comes back.
    assert scores_of(service.call("GET", f"/v1/rankings/{first['id']}")) == scores_of(first)
    service.call("PUT", "/v1/reference", json={"dataset": first["reference"]["id"]})
    third = service.ranked(dataset, tiny_zoo.names, estimators=wanted)
    assert scores_of(third) == scores_of(first)
    assert service.tasks(kind="embed", subject_id=third["id"]) == []


def test_naming_one_later_computes_only_what_lacked_it(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:2])
    dataset = service.sealed()["id"]
    without = service.ranked(dataset, tiny_zoo.names[:2])
    assert without["state"] == "done"
    assert without["reference"] is None
    for entry in without["entries"]:
        assert list(entry["scores"]) == PANEL
        for name in NEED_IT:
            score = entry["scores"][name]
            assert score["value"] is None
            assert score["stderr"] is None
            assert "zooscout reference set DATASET" in score["degenerate"]
            assert "PUT /v1/reference" in score["degenerate"]
            assert scores_stored(service, name) == 0
    again = service.ranked(dataset, tiny_zoo.names[:2])
    assert service.tasks(kind="embed", subject_id=again["id"]) == []
    named(service, 1)
    later = service.ranked(dataset, tiny_zoo.names[:2])
    assert later["progress"]["images_embedded"] == 2 * 10
    assert [scores_stored(service, name) for name in PANEL] == [2] * 4
    assert all(value is not None for name in NEED_IT for value in values(later, name).values())


def test_what_needs_no_reference_embeds_none(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    named(service, 1)
    done = service.ranked(service.sealed()["id"], tiny_zoo.names[:1], estimators=["logme", "knn"])
    assert done["reference"] is None
    assert done["progress"]["images_embedded"] == rows_embedded(service) == N_TARGET


def test_moments_of_the_reference_set_stay_warm(
    service: Service, tiny_zoo: TinyZoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.compute import reference

    computed: list[int] = []
    moments = reference._moments

    def counted(hashes: Any, *more: Any) -> Any:
        computed.append(len(hashes))
        return moments(hashes, *more)

    monkeypatch.setattr(reference, "_moments", counted)
    service.add_models(tiny_zoo.good[:2])
    named(service, 1)
    for seed in (5, 6):
        dataset = service.sealed(zipped(class_folders(seed=seed)), name=f"trees {seed}")
        service.ranked(dataset["id"], tiny_zoo.names[:2])
    assert computed == [10, 10]


@pytest.mark.parametrize("estimator", ["ped_logme", "frechet", "mmd", "proxy_a_distance", "otdd"])
def test_ordering_by_what_needs_a_reference_set_is_refused_without_one(
    service: Service, tiny_zoo: TinyZoo, estimator: str
) -> None:
    service.add_models(tiny_zoo.good[:2])
    dataset = service.sealed()["id"]
    body = {"dataset": dataset, "models": tiny_zoo.names[:2]}
    for asked in ({"ordered_by": estimator}, {"estimators": [estimator]}):
        problem = service.call("POST", "/v1/rankings", 422, json=body | asked)
        assert problem["type"] == "/problems/reference-needed"
        assert "zooscout reference set DATASET" in problem["detail"]
    listed = service.ranked(dataset, tiny_zoo.names[:2], estimators=[estimator, "knn"])
    assert listed["ordered_by"] == "knn"
    assert [e["rank"] for e in listed["entries"]] == [1, 2]


def test_a_distance_orders_models_of_one_width_from_below(service: Service, tiny_zoo: TinyZoo) -> None:
    models = service.add_models(tiny_zoo.good)
    named(service, 1)
    dataset = service.sealed()["id"]
    body = {"dataset": dataset, "models": tiny_zoo.names, "ordered_by": "frechet"}
    assert service.call("POST", "/v1/rankings", 422, json=body)["type"] == "/problems/not-comparable"
    same = [m["name"] for m in models if m["feature_dim"] == models[0]["feature_dim"]]
    done = service.ranked(dataset, same, ordered_by="frechet")
    found = [e["scores"]["frechet"]["value"] for e in done["entries"]]
    assert found == sorted(found)


def test_the_reference_set_is_not_removed_while_it_is_needed(each_service: Service, tiny_zoo: TinyZoo) -> None:
    service = each_service
    service.add_models(tiny_zoo.good[:1])
    old = named(service, 1)["dataset"]
    dataset = service.sealed()["id"]
    refused = service.call("DELETE", f"/v1/datasets/{old}", 409)
    assert refused["type"] == "/problems/dataset-in-use"
    assert "zooscout reference clear" in refused["detail"]
    made = service.call("POST", "/v1/rankings", 202, json={"dataset": dataset, "models": tiny_zoo.names[:1]})
    new = named(service, 2)["dataset"]
    still = service.call("DELETE", f"/v1/datasets/{old}", 409)  # asked for against the old one, and not yet worked on
    assert made["id"] in still["detail"]
    service.work()
    done = service.call("GET", f"/v1/rankings/{made['id']}")
    assert done["reference"]["id"] == old
    assert done["entries"][0]["scores"]["frechet"]["value"] > 0
    service.call("DELETE", f"/v1/datasets/{old}", 204, params={"purge": True})
    service.work()
    after = service.call("GET", f"/v1/rankings/{made['id']}")
    assert after["reference"] == done["reference"] | {"name": None}
    assert after["entries"] == done["entries"]
    service.call("DELETE", "/v1/reference", 204)
    service.call("DELETE", f"/v1/datasets/{new}", 204)


def test_the_pages_name_the_reference_set_or_the_command(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed()["id"]
    without = service.client.get(f"/rankings/{service.ranked(dataset, tiny_zoo.names[:1])['id']}").text
    assert "zooscout reference set DATASET" in without
    named(service, 1)
    page = service.client.get(f"/rankings/{service.ranked(dataset, tiny_zoo.names[:1])['id']}").text
    assert "zooscout reference set" not in page
    assert "photographs 1" in page
    for title in ("LogME", "kNN probe", "PED + LogME", "Fréchet divergence"):
        assert title in page


def test_on_the_command_line(service: Service, tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    settings = service.settings
    service.add_models(tiny_zoo.good[:2])
    dataset = service.sealed()["id"]
    none = cli(settings, "reference", "show")
    assert none.returncode == 4
    assert "zooscout reference set DATASET" in none.stderr
    refused = cli(settings, "rank", dataset, "--models", "tiny_resnet*", "--ordered-by", "frechet")
    assert refused.returncode == 3
    assert "zooscout reference set DATASET" in refused.stderr
    without = cli(settings, "rank", dataset, "--models", "tiny_resnet*")
    assert without.returncode == 0, without.stderr
    assert without.stdout.count("zooscout reference set DATASET") == 1  # once, not once a model and estimator

    archive = tmp_path / "photographs.zip"
    archive.write_bytes(reference_archive(1))
    named_it = cli(settings, "reference", "set", str(archive), "--json")
    assert named_it.returncode == 0, named_it.stderr
    assert json.loads(named_it.stdout) == service.call("GET", "/v1/reference")
    table = cli(settings, "rank", dataset, "--models", "tiny_resnet*", "--ordered-by", "frechet")
    assert table.returncode == 0, table.stderr
    assert "photographs.zip" in table.stdout
    assert "n/a" not in table.stdout
    for name in PANEL:
        assert name in table.stdout
    assert "photographs.zip" in cli(settings, "reference", "show").stdout
    kept = cli(settings, "datasets", "rm", "photographs.zip")
    assert kept.returncode == 5
    assert "reference clear" in kept.stderr
    assert cli(settings, "reference", "clear").returncode == 0
    assert cli(settings, "datasets", "rm", "photographs.zip").returncode == 0
