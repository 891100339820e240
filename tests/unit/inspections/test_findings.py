"""What nearness says, on features whose copies, leaks and wrong labels are known because they were put there."""

import hashlib

import numpy as np
import pytest

from service.core.errors import Cancelled
from service.datasets.manifest import Row, build_manifest
from service.embeddings.memory import MemoryStore
from service.embeddings.model import StoreKey
from service.inspections import findings
from service.inspections.findings import connected, inspect
from service.inspections.images import Images, distinct_images
from service.inspections.nearness import Embedded

KEY = StoreKey("p", "e" * 64)
CLASSES = ("ash", "birch", "cedar")
EACH = 30
WIDTH = 96


def digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


class Case:
    """Three separate clusters on a common offset, as features that are never negative have one."""

    def __init__(self, *, seed: int = 0, scale: float = 1.0) -> None:
        rng = np.random.default_rng(seed)
        self.rows: list[Row] = []
        self.features: dict[str, np.ndarray] = {}
        centres = rng.normal(0, 1, (3, WIDTH)) + 4
        for label, centre in enumerate(centres):
            for number in range(EACH):
                split = "train" if number < 20 else "test"
                self.add(
                    f"{split}/{CLASSES[label]}/{number}", scale * (centre + rng.normal(0, 0.5, WIDTH)), label=label
                )

    def add(self, path: str, features: np.ndarray, *, label: int) -> None:
        self.features[path] = features
        self.row(path, path, label=label)

    def row(self, path: str, image: str, *, label: int) -> None:
        self.rows.append(Row(digest(image), path.split("/")[0], label, path, 8, 8))

    def relabel(self, path: str, label: int) -> None:
        self.rows = [r if r.path != path else Row(r.content_hash, r.split, label, r.path, 8, 8) for r in self.rows]

    def images(self) -> Images:
        return distinct_images(build_manifest(self.rows, CLASSES))

    def embedded(self) -> Embedded:
        store = MemoryStore()
        rows = np.array([self.features[path] for path in self.features], dtype=np.float32)
        store.put(KEY, [digest(path) for path in self.features], rows)
        return Embedded(store, KEY, self.images().hashes, lambda: False)

    def result(self) -> dict:
        return inspect(self.embedded(), self.images())


def paths(group: dict) -> set[str]:
    return {image["path"] for image in group["images"]}


def test_nothing_is_found_where_nothing_is_wrong():
    result = Case().result()
    assert (result["near_copies"]["total"], result["leaks"]["total"], result["label_errors"]["total"]) == (0, 0, 0)
    assert result["label_errors"]["agreement"] == 1.0
    assert (result["exact"], result["index"], result["images"]) == (True, "flat", 90)


def test_near_copies_chain_into_groups_and_equal_features_count():
    case = Case()
    base = case.features["train/ash/0"]
    case.add("train/ash/copy", base * 1.001, label=0)
    case.add("test/ash/copy", base + 0.01, label=0)
    case.add("train/cedar/copy", case.features["train/cedar/3"], label=2)
    found = case.result()["near_copies"]
    assert (found["total"], found["images"]) == (2, 5)
    assert paths(found["shown"][0]) == {"train/ash/0", "train/ash/copy", "test/ash/copy"}
    assert (found["shown"][0]["size"], found["shown"][0]["splits"]) == (3, ["train", "test"])
    assert paths(found["shown"][1]) == {"train/cedar/3", "train/cedar/copy"}
    assert found["shown"][1]["least_similarity"] == pytest.approx(1.0)
    assert 0 < found["max_distance"] == pytest.approx(0.3 * found["typical_distance"])


def test_a_group_larger_than_the_number_of_neighbours_stays_one():
    case = Case()
    for number in range(40):
        case.add(f"train/ash/c{number}", case.features["train/ash/0"] + 0.001 * number, label=0)
    found = case.result()["near_copies"]
    assert (found["total"], found["images"]) == (1, 41)
    assert (found["shown"][0]["size"], len(found["shown"][0]["images"])) == (41, 10)


def test_the_scale_of_the_features_does_not_matter():
    small, large = Case(), Case(scale=1000.0)
    for case in (small, large):
        case.add("train/ash/copy", case.features["train/ash/0"] * 1.01, label=0)
    assert small.result()["near_copies"]["total"] == large.result()["near_copies"]["total"] == 1


def test_leaks_name_the_training_image():
    case = Case()
    case.add("test/birch/copy", case.features["train/birch/5"] + 0.01, label=1)
    case.row("test/ash/same", "train/ash/0", label=0)
    found = case.result()["leaks"]
    assert found["total"] == 2
    assert found["splits"] == {"test": {"images": 32, "identical": 1, "near_copies": 1}}
    first, second = found["shown"]
    assert (first["identical"], first["image"]["path"], first["in_train"]["path"]) == (
        True,
        "test/ash/same",
        "train/ash/0",
    )
    assert (second["identical"], second["image"]["path"], second["in_train"]["path"]) == (
        False,
        "test/birch/copy",
        "train/birch/5",
    )
    assert second["image"]["split"] == "test"


def test_a_training_copy_is_found_behind_many_copies_in_the_test_split():
    case = Case()
    for number in range(30):
        case.add(f"test/birch/c{number}", case.features["train/birch/5"] + 0.0001 * number, label=1)
    assert case.result()["leaks"]["splits"]["test"]["near_copies"] == 30


def test_wrong_labels_are_found_and_the_surest_come_first():
    case = Case()
    wrong = {"train/ash/1": 1, "test/birch/25": 2, "train/cedar/7": 0}
    for path, label in wrong.items():
        case.relabel(path, label)
    found = case.result()["label_errors"]
    assert {row["image"]["path"] for row in found["shown"]} == set(wrong)
    for row in found["shown"]:
        true = row["image"]["path"].split("/")[1]
        assert (row["suggested"], row["image"]["label"]) == (true, CLASSES[wrong[row["image"]["path"]]])
        assert row["share_suggested"] >= findings.MIN_SHARE_OTHER
        assert len(row["neighbours"]) == 10
        assert row["image"]["path"] not in {other["path"] for other in row["neighbours"]}
    sure = [row["share_suggested"] - row["share_own"] for row in found["shown"]]
    assert sure == sorted(sure, reverse=True)


def test_small_classes_are_not_judged():
    case = Case()
    rng = np.random.default_rng(5)
    case.rows = [row for row in case.rows if row.label != 2 or row.path.endswith(("/1", "/2", "/3"))]
    kept = {row.path for row in case.rows}
    case.features = {path: value for path, value in case.features.items() if path in kept}
    case.features["train/cedar/1"] = case.features["train/ash/1"] + rng.normal(0, 0.3, WIDTH)
    found = case.result()["label_errors"]
    assert (found["judged"], found["not_judged"], found["total"]) == (60, 3, 0)


def test_lists_are_bounded_and_totals_are_not(monkeypatch):
    case = Case()
    for number in range(12):
        case.add(f"test/ash/t{number}", case.features[f"train/ash/{number}"] + 0.001, label=0)
    monkeypatch.setattr(findings, "SHOWN", 5)
    result = case.result()
    assert (result["near_copies"]["total"], len(result["near_copies"]["shown"])) == (12, 5)
    assert (result["leaks"]["total"], len(result["leaks"]["shown"])) == (12, 5)


@pytest.mark.parametrize("n", [2, 3, 10, 11, 12])
def test_few_images_have_few_neighbours(n):
    case = Case()
    case.rows = case.rows[:: len(case.rows) // n][:n]
    case.features = {row.path: case.features[row.path] for row in case.rows}
    near = case.embedded().nearest(np.arange(n), np.arange(n), 10)
    assert near.positions.shape == (n, min(10, n - 1))
    assert (near.positions != np.arange(n)[:, None]).all()
    assert (np.diff(near.distances, axis=1) >= 0).all()
    assert case.result()["images"] == n


def test_an_image_is_never_its_own_neighbour_among_equal_rows():
    case = Case()
    for number in range(15):
        case.add(f"train/ash/e{number}", case.features["train/ash/0"], label=0)
    everything = np.arange(len(case.images()))
    near = case.embedded().nearest(everything, everything, 10)
    assert (near.positions != everything[:, None]).all()
    assert (near.positions >= 0).all()
    assert (near.distances >= 0).all()


def test_rows_that_are_all_equal_give_a_result():
    case = Case()
    case.features = {path: np.ones(WIDTH) for path in case.features}
    found = case.result()
    assert found["near_copies"]["shown"][0]["size"] == 90
    assert found["near_copies"]["typical_distance"] == 0.0


def test_it_can_be_stopped():
    case = Case()
    embedded = case.embedded()
    embedded._cancelled = lambda: True
    with pytest.raises(Cancelled):
        inspect(embedded, case.images())


def test_connected():
    first, second = np.array([5, 1, 2, 8]), np.array([1, 2, 5, 9])
    assert connected(10, first, second) == [[1, 2, 5], [8, 9]]
    assert connected(10, np.array([], dtype=np.int64), np.array([], dtype=np.int64)) == []
