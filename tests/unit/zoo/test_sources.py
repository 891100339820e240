import socket
import time
from collections import Counter
from typing import Any

import pytest

from zoo.catalog import ModelCard
from zoo.imagenet import imagenet_top1
from zoo.libraries import open_clip, timm
from zoo.pretraining import pretrained_on
from zoo.sources import LABEL_SPACES, import_open_clip, import_timm


@pytest.fixture(scope="module")
def cards() -> dict[str, ModelCard]:
    timm(), open_clip()
    start = time.process_time()  # a loaded machine is no slower import
    found = [*import_timm(), *import_open_clip()]
    assert time.process_time() - start < 10  # about one second
    assert len({card.name for card in found}) == len(found)
    return {card.name: card for card in found}


def test_every_pretrained_entry_is_a_card(cards: dict[str, ModelCard]) -> None:
    assert {n for n, c in cards.items() if c.library == "timm"} == set(timm().list_pretrained())
    assert {n for n, c in cards.items() if c.library == "open_clip"} == {
        f"{a}.{t}" for a, t in open_clip().list_pretrained()
    }
    assert len(cards) > 1900


def test_importing_asks_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert sum(1 for _ in import_timm("resnet*")) > 50
    assert sum(1 for _ in import_open_clip("ViT-B-32*")) > 10


def test_published_imagenet_accuracies_are_those_of_entries(cards: dict[str, ModelCard]) -> None:
    known = imagenet_top1()
    of_torchvision = {"googlenet", "mnasnet1_0", "mobilenet_v2"}
    assert set(known) - set(cards) == of_torchvision
    assert sum(card.imagenet_top1 is not None for card in cards.values()) == len(known) - len(of_torchvision) > 1000
    assert all(0.5 < top1 < 0.95 for top1 in known.values())


def test_cards_survive_json(cards: dict[str, ModelCard]) -> None:
    assert all(ModelCard.from_json(card.to_json()) == card for card in cards.values())


def test_a_known_card_says_what_is_published(cards: dict[str, ModelCard]) -> None:
    card = cards["resnet50.a1_in1k"]
    assert (card.params, card.feature_dim, card.num_classes) == (23_508_032, 2048, 1000)
    assert card.macs == 4_087_136_256
    assert card.licence == "apache-2.0"
    assert card.pretrained_on == "ImageNet-1k"
    assert card.imagenet_top1 == 0.81214
    assert card.family == "resnet"
    assert card.hub_id == "timm/resnet50.a1_in1k"
    assert card.weights.uri == "timm:resnet50.a1_in1k"
    assert card.preprocess.crop_pct == 0.95
    clip = cards["ViT-B-32.openai"]
    assert clip.arch_kwargs == {"force_quick_gelu": True}
    assert (clip.feature_dim, clip.num_classes, clip.preprocess.crop_pct) == (512, 0, 1.0)
    assert cards["ViT-B-32-quickgelu.openai"].arch_kwargs == {}


def test_preprocessing_is_what_timm_resolves(cards: dict[str, ModelCard]) -> None:
    for name in timm().list_pretrained():
        wanted = timm().data.resolve_data_config(pretrained_cfg=timm().get_pretrained_cfg(name).to_dict())
        got = cards[name].preprocess
        assert (got.input_size, got.interpolation, got.mean, got.std, got.crop_pct, got.crop_mode) == (
            tuple(wanted["input_size"]), wanted["interpolation"], tuple(wanted["mean"]), tuple(wanted["std"]),
            wanted["crop_pct"], wanted["crop_mode"],
        ), name  # fmt: skip


def test_a_projection_is_no_classifier(cards: dict[str, ModelCard]) -> None:
    assert timm().get_pretrained_cfg("vit_base_patch16_clip_224.openai").num_classes == 512
    assert cards["vit_base_patch16_clip_224.openai"].num_classes == 0
    widths = Counter(timm().get_pretrained_cfg(n).num_classes for n, c in cards.items() if c.library == "timm")
    # Every width that is not listed is an embedding's; a new registry with a new label space shows here.
    assert set(widths) - set(LABEL_SPACES) <= {0, 384, 512, 640, 768, 1024, 1152, 1280}


def test_nothing_unknown_is_invented(cards: dict[str, ModelCard]) -> None:
    assert all(card.licence not in ("", "unknown", "other") for card in cards.values())
    assert all(card.params is None or card.params > 0 for card in cards.values())
    measured = sum(card.params is not None for card in cards.values())
    assert measured > 0.9 * len(cards)
    described = sum(card.pretrained_on is not None for card in cards.values())
    assert described > 0.9 * len(cards)


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        ("a1_in1k", "ImageNet-1k"),
        ("in22k_ft_in1k", "ImageNet-22k, then ImageNet-1k"),
        ("clip_laion2b_augreg_ft_in12k_in1k_384", "LAION-2B, then ImageNet-12k, then ImageNet-1k"),
        ("openai", "OpenAI WebImageText"),
        ("laion2b_s34b_b79k", "LAION-2B"),
        ("commonpool_l_laion_s1b_b8k", "CommonPool-L"),
        ("mscoco_finetuned_laion2b_s13b_b90k", "LAION-2B, then MS COCO"),
        ("in1k_ft_in1k", "ImageNet-1k"),
        ("min1k", None),
        ("fb", None),
        ("", None),
    ],
)
def test_the_tag_names_the_source_data(tag: str, data: str | None) -> None:
    assert pretrained_on(tag) == data
