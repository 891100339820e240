"""What a worker keeps between tasks, and in which precision it computes."""

from pathlib import Path

import pytest
import torch

from service.compute.device import native_bfloat16
from service.compute.precision import LEAST_COSINE, compare, decide, spread
from service.compute.warm import WarmModels
from service.embeddings import repository as embeddings
from service.embeddings.precision import Decision, decided, extractor_ids, settle
from service.embeddings.tables import PrecisionRow
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo
from tests.integration.test_embedding_pipeline import CPU, card
from zoo.catalog import ModelCard
from zoo.extract import Extractor, load


@pytest.fixture
def two(tiny_zoo: TinyZoo, tmp_path: Path) -> list[Extractor]:
    return [load(card(m.name, m.architecture, m.path), device="cpu", cache_dir=tmp_path) for m in tiny_zoo.good[:2]]


def pixels(count: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    dice = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 4
    noise = torch.randint(0, 120, (count, 3, 32, 32), generator=dice)
    return (noise + 40 * labels.view(-1, 1, 1, 1)).clamp(0, 255).to(torch.uint8), labels


def test_a_model_stays_loaded_up_to_so_many_bytes(two: list[Extractor], tmp_path: Path) -> None:
    first, second = (e.card for e in two)
    models = WarmModels(kept_bytes=1 << 30)
    loaded = models.load(first, device=CPU, cache_dir=tmp_path)
    renamed = models.load(ModelCard.from_json(first.to_json() | {"name": "other"}), device=CPU, cache_dir=tmp_path)
    assert renamed._module is loaded._module
    assert renamed.card.name == "other"
    assert models.load(second, device=CPU, cache_dir=tmp_path)._module is not loaded._module
    assert models.load(first, device=CPU, cache_dir=tmp_path, precision="bfloat16").precision == "bfloat16"
    small = WarmModels(kept_bytes=1)
    once = small.load(first, device=CPU, cache_dir=tmp_path)
    assert small.load(first, device=CPU, cache_dir=tmp_path)._module is once._module
    small.load(second, device=CPU, cache_dir=tmp_path)
    assert small.load(first, device=CPU, cache_dir=tmp_path)._module is not once._module


def test_two_precisions_of_one_model_agree_and_two_models_do_not(two: list[Extractor]) -> None:
    exact, other = two
    same = compare(exact, exact.cast("bfloat16"), *pixels())
    assert same.cosine > 0.9999
    assert same.least_cosine <= same.cosine
    assert set(same.scores) == {"logme", "knn"}
    assert same.refused is None or "not faster" in same.refused
    wrong = compare(exact, other, *pixels())
    assert wrong.cosine < LEAST_COSINE
    assert "features differ" in (wrong.refused or "")
    alike = pixels()[0], torch.zeros(48, dtype=torch.int64)
    assert compare(exact, exact.cast("bfloat16"), *alike).refused == "no score can be compared on these images"


def test_auto_is_float32_where_bfloat16_is_emulated(two: list[Extractor]) -> None:
    if native_bfloat16(CPU):
        pytest.skip("this CPU has native bfloat16")

    def sample(_card: ModelCard) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("nothing is probed where it cannot be faster")

    found = decide(two[0], "auto", sample)
    assert found.precision == "float32"
    assert "no native" in found.parity["reason"]
    assert decide(two[0], "bfloat16", sample).precision == "bfloat16"


def test_the_images_of_a_probe_are_dealt_from_the_classes() -> None:
    labels = torch.tensor([0] * 100 + [1] * 3 + [2] * 100).numpy()
    chosen = labels[spread(labels, 48)]
    assert [int((chosen == label).sum()) for label in range(3)] == [16, 3, 16]
    many = torch.arange(1000).div(10, rounding_mode="floor").numpy()
    assert sorted({int((many[spread(many, 48)] == label).sum()) for label in range(12)}) == [4]


def test_the_first_decision_holds(service: Service, two: list[Extractor]) -> None:
    project = service.add_models([])
    assert project == []
    with service.database.write() as session:
        from service.keys.repository import project_named

        ident = project_named(session, "p").id
        exact = two[0]
        pinned = [(exact.card, exact.weights_sha256)]
        assert decided(session, ident, exact.extractor_id) is None
        assert extractor_ids(session, ident, pinned) == [exact.extractor_id]
        lower = Decision("bfloat16", {"images": 48}, "cpu")
        assert settle(session, ident, exact.extractor_id, lower) == "bfloat16"
        assert settle(session, ident, exact.extractor_id, Decision("float32", {}, "cpu")) == "bfloat16"
        assert extractor_ids(session, ident, pinned) == [exact.cast("bfloat16").extractor_id]
        assert decided(session, ident, exact.extractor_id) == "bfloat16"


def test_a_precision_once_decided_stays_whatever_the_settings_say(
    make_service: "type[Service]", tiny_zoo: TinyZoo
) -> None:
    archive = zipped(class_folders())
    lower = make_service(worker={"precision": "bfloat16"})  # type: ignore[call-arg]
    model = tiny_zoo.good[0]
    lower.add_models([model])
    dataset = lower.sealed(archive)
    first = lower.ranked(dataset["id"], [model.name])
    assert first["state"] == "done"
    with lower.database.read() as session:
        (row,) = session.query(PrecisionRow)
        assert row.precision == "bfloat16"
        stored = {info.key.extractor_id for info in embeddings.all_segments(session, row.project_id)}
    assert row.extractor_id not in stored
    exact = make_service(worker={"precision": "float32"})  # type: ignore[call-arg]
    again = exact.ranked(dataset["id"], [model.name], estimators=["logme", "h_score"])
    assert again["progress"]["images_embedded"] == 0
    assert again["entries"][0]["scores"]["logme"]["value"] == first["entries"][0]["scores"]["logme"]["value"]


def test_features_that_are_there_in_float32_stay_the_models(make_service: "type[Service]", tiny_zoo: TinyZoo) -> None:
    before = make_service()  # type: ignore[call-arg]
    model = tiny_zoo.good[0]
    before.add_models([model])
    dataset = before.sealed()
    before.ranked(dataset["id"], [model.name])
    with before.database.write() as session:
        session.query(PrecisionRow).delete()  # as a project from before there were decisions
    after = make_service(worker={"precision": "bfloat16"})  # type: ignore[call-arg]
    again = after.ranked(dataset["id"], [model.name], estimators=["h_score"])
    assert again["progress"]["images_embedded"] == 0
