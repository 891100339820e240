"""Where labels and splits stand in folders, as pure rules over names."""

import pytest

from service.datasets.errors import AmbiguousLayout, NoLabels
from service.datasets.layouts import clean_label, folder_plan
from service.datasets.names import checked_path, is_litter, split_of_shard, suffix


def said(*paths: str) -> dict[str, tuple[str, str]]:
    return {path: (places[0].label, places[0].split) for path, places in folder_plan(paths).places.items()}


@pytest.mark.parametrize("enclosing", ["", "ds/", "a/b/c/"])
def test_class_folders_are_of_the_training_split(enclosing):
    assert said(f"{enclosing}cat/1.png", f"{enclosing}dog/2.png") == {
        f"{enclosing}cat/1.png": ("cat", "train"),
        f"{enclosing}dog/2.png": ("dog", "train"),
    }


@pytest.mark.parametrize("enclosing", ["", "ds/"])
@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("val", "validation"),
        ("valid", "validation"),
        ("VALIDATION", "validation"),
        ("test", "test"),
        ("testing", "test"),
    ],
)
def test_split_folders_go_by_any_of_their_names(enclosing, folder, split):
    path = f"{enclosing}{folder}/cat/1.png"
    assert said(path, f"{enclosing}train/dog/2.png")[path] == ("cat", split)


def test_one_split_alone_is_not_taken_for_an_enclosing_folder():
    assert said("test/cat/1.png", "test/dog/2.png")["test/cat/1.png"] == ("cat", "test")


def test_train_is_a_class_where_it_holds_images_directly():
    assert said("train/1.png", "bus/2.png", "test/3.png") == {
        "train/1.png": ("train", "train"),
        "bus/2.png": ("bus", "train"),
        "test/3.png": ("test", "train"),
    }


def test_splits_below_the_classes_are_found():
    assert said("cat/train/1.png", "cat/test/2.png", "dog/val/3.png") == {
        "cat/train/1.png": ("cat", "train"),
        "cat/test/2.png": ("cat", "test"),
        "dog/val/3.png": ("dog", "validation"),
    }


def test_the_first_folder_names_the_class_however_deep_the_image():
    assert said("cat/siamese/1.png", "dog/2.png")["cat/siamese/1.png"] == ("cat", "train")


def test_images_outside_class_folders_are_listed_and_not_labelled():
    plan = folder_plan(["preview.png", "train/cat/1.png", "test/dog/2.png", "test/withheld.png"])
    assert plan.unlabelled == ("preview.png", "test/withheld.png")
    assert len(plan.places) == 2


@pytest.mark.parametrize(
    "paths",
    [
        ["train/cat/1.png", "misc/dog/2.png"],
        ["train/cat/1.png", "misc/2.png"],
        ["cat/train/1.png", "cat/test/2.png", "dog/3.png"],
    ],
)
def test_a_mixture_of_splits_and_classes_is_refused_not_guessed(paths):
    with pytest.raises(AmbiguousLayout):
        folder_plan(paths)


@pytest.mark.parametrize("paths", [["1.png", "2.png"], ["train/1.png", "test/2.png"], ["train/1.png"]])
def test_without_class_folders_there_are_no_labels(paths):
    with pytest.raises(NoLabels):
        folder_plan(paths)


def test_places_are_shared_between_images():
    places = folder_plan([f"{name}/{n}.png" for name in ("cat", "dog") for n in range(50)]).places
    assert len({id(value) for value in places.values()}) == 2


@pytest.mark.parametrize(
    ("raw", "path"), [("./cat//1.png", "cat/1.png"), ("cafe\u0301/1.png", "café/1.png"), ("./", ""), ("a/...", "a/...")]
)
def test_names_are_brought_to_one_spelling(raw, path):
    assert checked_path(raw) == path


@pytest.mark.parametrize(
    ("path", "litter"),
    [
        ("__MACOSX/cat/._1.png", True),
        ("cat/.DS_Store", True),
        ("cat/Thumbs.db", True),
        (".git/x.png", True),
        ("cat/1.png", False),
        ("cat/a.b.png", False),
    ],
)
def test_litter(path, litter):
    assert is_litter(path) is litter


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train-00000-of-00005.parquet", "train"),
        ("data/test-00000-of-00001-0123abcd.parquet", "test"),
        ("default/validation/0000.parquet", "validation"),
        ("valid.csv", "validation"),
        ("data/0000.parquet", None),
        ("trainer.parquet", None),
    ],
)
def test_the_split_that_a_file_names(path, split):
    assert split_of_shard(path) == split


@pytest.mark.parametrize(("path", "kind"), [("a/B.JPG", "jpg"), ("a.b/c", ""), (".png", ""), ("x.tar.gz", "gz")])
def test_suffix(path, kind):
    assert suffix(path) == kind


@pytest.mark.parametrize(
    ("raw", "label"), [(" cat ", "cat"), ("", None), ("x" * 201, None), ("a\nb", None), ("e\u0301", "é"), ("猫", "猫")]
)
def test_labels_are_brought_to_one_spelling(raw, label):
    assert clean_label(raw) == label
