"""Small random models through the whole path: card, file, build, features."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef, extractor_id
from zoo.errors import (
    ExtractionFailed,
    HashMismatch,
    UnknownArchitecture,
    UnsafeCheckpoint,
    WeightsMismatch,
    WeightsNotFound,
)
from zoo.extract import interruptible, load
from zoo.libraries import timm
from zoo.snippet import snippet

PREPROCESS = PreprocessConfig(input_size=(3, 64, 64), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def model(architecture: str = "test_resnet", **kwargs: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    built = timm().create_model(architecture, **kwargs).eval()
    with torch.no_grad():
        for name, value in built.state_dict().items():
            # A fresh model's last gains are zero and would hide every mistake behind constant features.
            if "running_var" in name:
                value.copy_(torch.rand_like(value) + 0.5)
            elif "running_mean" in name or "bias" in name:
                value.copy_(torch.randn_like(value) * 0.1)
            elif value.ndim == 1 and value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5)
    return built


def card(path: Path, architecture: str = "test_resnet", **changes: Any) -> ModelCard:
    base: dict[str, Any] = {
        "name": "mine", "library": "timm", "architecture": architecture, "tag": "mine",
        "weights": WeightsRef(uri=f"file:{path}"), "preprocess": PREPROCESS,
    }  # fmt: skip
    return ModelCard(**(base | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(model(num_classes=7).state_dict(), path)
    return path


def pixels(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def run(given: ModelCard, tmp_path: Path, **options: Any) -> Any:
    return load(given, device="cpu", cache_dir=tmp_path, **options)


@pytest.mark.parametrize(
    "architecture",
    [
        "test_resnet",
        "test_efficientnet",
        "test_vit",
        "test_convnext",
        "test_byobnet",
        "test_mambaout",
        "mobilenetv3_small_050",
    ],
)
def test_features_and_probabilities_are_timms(tmp_path: Path, architecture: str) -> None:
    kwargs = {"img_size": 64} if architecture == "test_vit" else {}
    plain = model(architecture, num_classes=7, **kwargs)
    save_file(plain.state_dict(), tmp_path / "w.safetensors")
    extractor = run(card(tmp_path / "w.safetensors", architecture, arch_kwargs=kwargs), tmp_path)
    features, probs = extractor.forward(pixels())
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (PREPROCESS.mean, PREPROCESS.std))
    with torch.inference_mode():
        inputs = (pixels().float() / 255 - mean) / std
        wanted = plain.forward_head(plain.forward_features(inputs), pre_logits=True)
        logits = plain(inputs)
    assert wanted.std(dim=0).max() > 1e-3
    assert ((features - wanted).norm(dim=1) / wanted.norm(dim=1)).max() < 1e-5
    assert torch.allclose(probs, logits.softmax(dim=1), rtol=1e-5, atol=1e-7)
    assert features.dtype == torch.float32
    assert extractor.feature_dim == features.shape[1]
    assert extractor.num_classes == 7


def test_the_extractor_pins_what_it_loaded(saved: Path, tmp_path: Path) -> None:
    extractor = run(card(saved), tmp_path)
    sha256 = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert extractor.weights_sha256 == extractor.card.weights.sha256 == sha256
    assert extractor.extractor_id == extractor_id(card(saved), weights_sha256=sha256)
    again = run(extractor.card, tmp_path)
    assert again.extractor_id == extractor.extractor_id
    assert ModelCard.from_json(extractor.card.to_json()) == extractor.card


def test_the_batch_an_image_is_in_does_not_change_its_features(saved: Path, tmp_path: Path) -> None:
    extractor = run(card(saved), tmp_path)
    whole, _ = extractor.forward(pixels(5))
    alone = torch.cat([extractor.forward(pixels(5)[i : i + 1])[0] for i in range(5)])
    assert torch.allclose(whole, alone, rtol=1e-5, atol=1e-6)


def test_a_lower_precision_is_what_autocast_gives_under_an_id_of_its_own(saved: Path, tmp_path: Path) -> None:
    exact = run(card(saved), tmp_path)
    lower = exact.cast("bfloat16")
    assert lower.extractor_id == run(card(saved), tmp_path, precision="bfloat16").extractor_id != exact.extractor_id
    features, probs = lower.forward(pixels())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, wanted_probs = exact.forward(pixels())
    assert torch.equal(features, wanted)
    assert torch.equal(probs, wanted_probs)
    assert not torch.equal(features, exact.forward(pixels())[0])
    assert features.dtype == torch.float32


def test_a_forward_pass_ends_between_two_layers_when_told_to(saved: Path, tmp_path: Path) -> None:
    extractor = run(card(saved), tmp_path)
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == 3:
            raise InterruptedError

    with interruptible([extractor], look), pytest.raises(InterruptedError):
        extractor.forward(pixels())
    assert looks == 3
    extractor.forward(pixels())
    assert looks == 3


def test_a_head_that_is_left_out_leaves_the_features(saved: Path, tmp_path: Path) -> None:
    with_head, without = run(card(saved), tmp_path), run(card(saved, num_classes=0), tmp_path)
    (a, a_probs), (b, b_probs) = with_head.forward(pixels()), without.forward(pixels())
    assert torch.equal(a, b)
    assert a_probs is not None
    assert b_probs is None


def test_weights_without_a_head_give_no_probabilities(tmp_path: Path) -> None:
    save_file(model(num_classes=0).state_dict(), tmp_path / "w.safetensors")
    extractor = run(card(tmp_path / "w.safetensors"), tmp_path)
    assert extractor.forward(pixels())[1] is None
    with pytest.raises(WeightsMismatch, match=r"2 missing \(fc\.weight, fc\.bias\)"):
        run(card(tmp_path / "w.safetensors", num_classes=7), tmp_path)


@pytest.mark.parametrize("classes", [1000, 0])
def test_by_order_the_head_is_found(tmp_path: Path, classes: int) -> None:
    plain = model(num_classes=classes)
    table = {f"x{i}": v for i, (k, v) in enumerate(plain.state_dict().items()) if "batches" not in k}
    torch.save(table, tmp_path / "w.pth")
    weights = WeightsRef(uri=f"file:{tmp_path / 'w.pth'}", match="order")
    extractor = run(card(tmp_path / "w.pth", weights=weights), tmp_path)
    assert extractor.num_classes == classes
    with torch.inference_mode():
        inputs = (pixels().float() / 255 - torch.tensor(PREPROCESS.mean).view(1, 3, 1, 1)) / torch.tensor(
            PREPROCESS.std
        ).view(1, 3, 1, 1)
        wanted = plain.forward_head(plain.forward_features(inputs), pre_logits=True)
    assert wanted.std(dim=0).max() > 1e-3
    assert torch.allclose(extractor.forward(pixels())[0], wanted, rtol=1e-5, atol=1e-6)


def test_arguments_of_the_architecture_matter(saved: Path, tmp_path: Path) -> None:
    plain, same = (run(card(saved, arch_kwargs=k), tmp_path) for k in ({}, {"output_stride": 16}))
    assert plain.extractor_id != same.extractor_id
    assert not torch.allclose(plain.forward(pixels())[0], same.forward(pixels())[0], rtol=1e-3)


def test_what_is_wrong_is_said(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownArchitecture, match="no such architecture"):
        run(card(saved, "resnet51"), tmp_path)
    with pytest.raises(UnknownArchitecture, match="pad_typ"):
        run(card(saved, arch_kwargs={"pad_typ": "same"}), tmp_path)
    with pytest.raises(WeightsMismatch, match="missing"):
        run(card(saved, "test_efficientnet"), tmp_path)
    with pytest.raises(WeightsNotFound):
        run(card(tmp_path / "none.safetensors"), tmp_path)
    with pytest.raises(HashMismatch, match="0000"):
        run(card(saved, weights=WeightsRef(uri=f"file:{saved}", sha256="0" * 64)), tmp_path)
    with pytest.raises(UnknownArchitecture):
        run(card(saved, "ViT-B-99", library="open_clip"), tmp_path)
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(UnsafeCheckpoint):
        run(card(tmp_path / "text.pth"), tmp_path)


def test_features_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    table = model(num_classes=7).state_dict()
    table["layer4.0.bn2.weight"] = torch.full_like(table["layer4.0.bn2.weight"], float("nan"))
    save_file(table, tmp_path / "w.safetensors")
    with pytest.raises(ExtractionFailed, match="mine gave no usable features: not a number"):
        run(card(tmp_path / "w.safetensors"), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(1, 3, 64, 64),
        torch.zeros(1, 3, 32, 64, dtype=torch.uint8),
        torch.zeros(3, 64, 64, dtype=torch.uint8),
    ],
)
def test_other_pixels_are_refused(saved: Path, tmp_path: Path, wrong: torch.Tensor) -> None:
    with pytest.raises(ExtractionFailed, match="takes uint8"):
        run(card(saved), tmp_path).forward(wrong)


def test_lower_precision_is_another_extractor_near_the_first(saved: Path, tmp_path: Path) -> None:
    exact, lower = run(card(saved), tmp_path), run(card(saved), tmp_path, precision="bfloat16")
    assert exact.extractor_id != lower.extractor_id
    (a, _), (b, _) = exact.forward(pixels()), lower.forward(pixels())
    assert b.dtype == torch.float32
    assert 0 < ((a - b).norm() / a.norm()).item() < 0.05


# safetensors sorts its tensors: a definition order lives in PyTorch checkpoints alone.
@pytest.mark.parametrize(("suffix", "match"), [("safetensors", "name"), ("pth", "name"), ("pth", "order")])
def test_the_snippet_loads_the_same_model(tmp_path: Path, suffix: str, match: Any) -> None:
    path = tmp_path / f"w.{suffix}"
    plain = model(num_classes=7)
    if suffix == "pth":
        torch.save(plain.state_dict(), path)
    else:
        save_file(plain.state_dict(), path)
    given = card(path, weights=WeightsRef(uri=f"file:{path}", match=match), num_classes=7)
    scope: dict[str, Any] = {}
    exec(snippet(given), scope)  # noqa: S102  (the snippet is what is tested)
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in scope["model"].state_dict().items())


@pytest.mark.parametrize(
    ("uri", "library", "architecture", "line"),
    [
        ("timm:resnet50.a1_in1k", "timm", "resnet50", 'timm.create_model("resnet50.a1_in1k", pretrained=True)'),
        ("open_clip:ViT-B-32.openai", "open_clip", "ViT-B-32", "pretrained='openai'"),
        ("hf-hub:org/name@v1/w.bin", "timm", "resnet50", "hf_hub_download('org/name', 'w.bin', revision='v1')"),
        ("wheel:pkg==1/a/w.pth", "timm", "resnet50", "torch.load('a/w.pth'"),
    ],
)
def test_the_snippet_names_the_weights(uri: str, library: Any, architecture: str, line: str) -> None:
    given = ModelCard(
        name="n",
        library=library,
        architecture=architecture,
        tag="t",
        weights=WeightsRef(uri=uri),
        preprocess=PREPROCESS,
    )
    text = snippet(given)
    assert line in text
    compile(text, "snippet", "exec")


def test_a_pinned_card_keeps_its_place(saved: Path, tmp_path: Path) -> None:
    pinned = run(card(saved), tmp_path).card
    saved.write_bytes(saved.read_bytes() + b"\0")
    with pytest.raises(HashMismatch):
        run(replace(pinned), tmp_path)
