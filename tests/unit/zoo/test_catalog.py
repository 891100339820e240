import json
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.catalog import SOURCES, ModelCard, PreprocessConfig, WeightsRef, extractor_id
from zoo.errors import BadCard
from zoo.uris import FileUri, HubUri, RegistryUri, WheelUri, parse_weights_uri

SHA = "0123456789abcdef" * 4


def card(**changes: Any) -> ModelCard:
    base: dict[str, Any] = {
        "name": "resnet18.mine",
        "library": "timm",
        "architecture": "resnet18",
        "tag": "mine",
        "weights": WeightsRef(uri="file:/weights/a.safetensors"),
    }
    return ModelCard(**(base | changes))


def test_cards_survive_json_and_pickle() -> None:
    full = card(
        arch_kwargs={"pad_type": "same", "bn_eps": 1e-3, "num_classes": 10},
        weights=WeightsRef(uri="hf-hub:timm/resnet18.a1_in1k@main/model.safetensors", sha256=SHA, match="order"),
        preprocess=PreprocessConfig(input_size=(3, 240, 320), crop_mode="border", fill=(1, 2, 3)),
        params=11, macs=12, feature_dim=512, num_classes=10, licence="mit", pretrained_on="ImageNet-1k",
        hub_id="timm/resnet18.a1_in1k", family="resnet", tags={"owner": "me"},
    )  # fmt: skip
    assert ModelCard.from_json(json.loads(json.dumps(full.to_json()))) == full
    assert pickle.loads(pickle.dumps(full)) == full  # noqa: S301  (our own bytes)
    assert ModelCard.from_json(card().to_json()) == card()


@pytest.mark.parametrize(
    ("uri", "parsed"),
    [
        ("file:/a/b c.pth", FileUri("/a/b c.pth")),
        ("file:///a/b.pth", FileUri("/a/b.pth")),
        ("hf-hub:timm/resnet18.a1_in1k", HubUri("timm/resnet18.a1_in1k", None, None)),
        ("hf-hub:org/name@v1.0/sub/w.bin", HubUri("org/name", "v1.0", "sub/w.bin")),
        ("wheel:pkg-a==1.0.1/pkg/w.pth", WheelUri("pkg-a", "1.0.1", "pkg/w.pth")),
        ("timm:resnet18.a1_in1k", RegistryUri("timm", "resnet18", "a1_in1k", None)),
        ("open_clip:ViT-B-32.openai@abc", RegistryUri("open_clip", "ViT-B-32", "openai", "abc")),
    ],
)
def test_the_grammar_of_weights_references(uri: str, parsed: object) -> None:
    assert parse_weights_uri(uri) == parsed


@pytest.mark.parametrize(
    "uri",
    [
        "", "weights.pth", "/a/b.pth", "file:a.pth", "file:", "http://host/a.pth", "https://host/a.pth", "s3://b/a",
        "hf-hub:name", "hf-hub:a/b/../../c", "hf-hub:-a/b", "wheel:pkg/w.pth", "wheel:pkg==1/../w.pth", "wheel:-r==1/w",
        "wheel:--index-url==1/w", "wheel:pkg==1//etc/passwd", "wheel:pkg==1/a\\..\\b", "timm:resnet18", "timm:a/b.c",
        "file:/a\nb",
    ],
)  # fmt: skip
def test_other_references_are_refused(uri: str) -> None:
    with pytest.raises(BadCard):
        WeightsRef(uri=uri)


@pytest.mark.parametrize(
    "changes",
    [
        {"library": "keras"},
        {"architecture": "hf-hub:org/name"},
        {"architecture": "local-dir:/etc"},
        {"architecture": "../x"},
        {"name": "a b"},
        {"tag": ""},
        {"arch_kwargs": {"checkpoint_path": "/etc/passwd"}},
        {"arch_kwargs": {"pretrained_cfg_overlay": {"file": "/x.pth"}}},
        {"arch_kwargs": {"pretrained": True}},
        {"arch_kwargs": {"a": float("nan")}},
        {"arch_kwargs": {"a": object()}},
        {"arch_kwargs": {"num_classes": 10}, "num_classes": 11},
        {"params": -1},
        {"num_classes": 1.5},
        {"tags": {"a": 1}},
        {"weights": WeightsRef(uri="open_clip:ViT-B-32.openai")},
        {"weights": WeightsRef(uri="timm:resnet50.a1_in1k")},
    ],
)
def test_cards_that_contradict_themselves_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadCard):
        card(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"input_size": (1, 224, 224)}, {"input_size": (3, 0, 224)}, {"input_size": (3, 224)}, {"input_size": "224"},
        {"mean": (0.5, 0.5)}, {"mean": (float("nan"), 0, 0)}, {"std": (0, 1, 1)}, {"crop_pct": 0}, {"crop_pct": True},
        {"interpolation": "area"}, {"crop_mode": "zoom"}, {"fill": (0, 0, 256)}, {"input_size": (3, 224.5, 224)},
    ],
)  # fmt: skip
def test_preprocessing_out_of_range_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadCard):
        PreprocessConfig(**changes)


@pytest.mark.parametrize("data", [{}, {"uri": "file:/a", "extra": 1}, []])
def test_unknown_and_missing_keys_are_refused(data: Any) -> None:
    with pytest.raises(BadCard):
        WeightsRef.from_json(data)


def test_a_card_without_weights_is_refused() -> None:
    data = card().to_json()
    for broken in ({k: v for k, v in data.items() if k != "weights"}, data | {"weights": "file:/a"}):
        with pytest.raises(BadCard, match="weights"):
            ModelCard.from_json(broken)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([*card().to_json(), "weights.uri", "weights.sha256", "preprocess.mean"]), json_values)
def test_any_json_is_a_card_or_a_bad_card(key: str, value: Any) -> None:
    data: Any = card().to_json()
    outer, _, inner = key.partition(".")
    if inner:
        data[outer][inner] = value
    else:
        data[outer] = value
    try:
        made = ModelCard.from_json(data)
    except BadCard:
        return
    assert ModelCard.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_the_signature_names_pixels_and_not_their_scale() -> None:
    plain = PreprocessConfig()
    assert plain.signature == replace(plain, mean=(0, 0, 0), std=(1, 1, 1), fill=(9, 9, 9)).signature
    others = [
        replace(plain, input_size=(3, 224, 256)), replace(plain, interpolation="bilinear"),
        replace(plain, crop_pct=0.9), replace(plain, crop_mode="squash"), replace(plain, crop_mode="border"),
        replace(plain, crop_mode="border", fill=(9, 9, 9)),
    ]  # fmt: skip
    assert len({plain.signature, *(other.signature for other in others)}) == 7


def test_the_extractors_identity_holds_what_changes_features_and_nothing_else() -> None:
    base = card()
    same = [
        card(name="other", tag="b", licence="mit", tags={"a": "b"}, params=3, num_classes=10),
        card(weights=WeightsRef(uri="file:/elsewhere.safetensors", sha256=SHA)),
        card(preprocess=PreprocessConfig.from_json(json.loads('{"input_size": [3, 224, 224], "crop_pct": 0.875}'))),
    ]
    ids = {extractor_id(c, weights_sha256=SHA) for c in (base, *same)}
    assert len(ids) == 1
    other = {
        extractor_id(card(architecture="resnet34"), weights_sha256=SHA),
        extractor_id(card(arch_kwargs={"pad_type": "same"}), weights_sha256=SHA),
        extractor_id(card(preprocess=PreprocessConfig(mean=(0, 0, 0))), weights_sha256=SHA),
        extractor_id(base, weights_sha256=SHA[::-1]),
        extractor_id(base, weights_sha256=SHA, precision="bfloat16"),
    }
    assert len(other | ids) == 6


def test_whole_numbers_and_their_floats_are_one_identity() -> None:
    a = card(preprocess=PreprocessConfig(mean=(0, 0, 0), std=(1, 1, 1)))
    b = card(preprocess=PreprocessConfig(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)))
    assert extractor_id(a, weights_sha256=SHA) == extractor_id(b, weights_sha256=SHA)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=6), st.randoms())
def test_the_identity_does_not_depend_on_the_order_of_arguments(kwargs: dict[str, Any], random: Any) -> None:
    kwargs = {"x" + key: value for key, value in kwargs.items()}
    items = list(kwargs.items())
    random.shuffle(items)
    first, second = card(arch_kwargs=kwargs), card(arch_kwargs=dict(items))
    assert extractor_id(first, weights_sha256=SHA) == extractor_id(second, weights_sha256=SHA)


def test_the_identity_refuses_what_is_no_hash_or_precision() -> None:
    with pytest.raises(BadCard):
        extractor_id(card(), weights_sha256="abc")
    with pytest.raises(BadCard):
        extractor_id(card(), weights_sha256=SHA, precision="float8")  # type: ignore[arg-type]


def test_the_catalog_needs_the_standard_library_alone() -> None:
    code = (
        "import sys; import zoo.catalog, zoo.errors, zoo.uris, zoo.pretraining, zoo.snippet; "
        "bad = {'numpy', 'torch', 'timm', 'open_clip', 'PIL', 'torchvision', 'huggingface_hub'} & set(sys.modules); "
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_source_names_a_function() -> None:
    for name, source in SOURCES.items():
        module, _, function = source.entrypoint.partition(":")
        assert name == source.name
        assert module == "zoo.sources"
        assert function == f"import_{name}"
