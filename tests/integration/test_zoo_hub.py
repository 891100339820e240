"""Registry entries and hub references from a hub cache on this machine, with the hub switched off."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef
from zoo.errors import CorruptCheckpoint, HubUnreachable, UnsafeCheckpoint, WeightsMismatch, WeightsNotFound
from zoo.extract import load
from zoo.libraries import open_clip, timm
from zoo.sources import import_open_clip, import_timm
from zoo.weights import fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def publish(cache: Path, repo: str, name: str, *, tensors: dict[str, torch.Tensor], pickled: bool = False) -> Path:
    """Lays a file into a hub cache as a download would have left it."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text(COMMIT)
    path = folder / "snapshots" / COMMIT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    blob = folder / "blobs" / name
    blob.parent.mkdir(exist_ok=True)
    if pickled:
        torch.save(tensors, blob)
    else:
        save_file(tensors, blob)
    path.symlink_to(blob)
    return path


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def random_timm(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm().create_model(name, pretrained=False).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            # A fresh model's last gains are zero: its features would be alike whatever was loaded.
            if key.endswith("weight") and value.ndim == 1:
                value.copy_(torch.rand_like(value) + 0.5)
    return model


def pixels(card: ModelCard) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (2, *card.preprocess.input_size), dtype=torch.uint8, generator=generator)


def normalised(card: ModelCard) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (card.preprocess.mean, card.preprocess.std))
    return (pixels(card).float() / 255 - mean) / std


@pytest.mark.parametrize("pickled", [False, True])
def test_a_timm_entry_loads_from_the_cache(tmp_path: Path, pickled: bool) -> None:
    (card,) = import_timm("test_resnet.r160_in1k")
    plain = random_timm("test_resnet.r160_in1k")
    assert card.hub_id is not None
    name = "pytorch_model.bin" if pickled else "model.safetensors"
    publish(tmp_path, card.hub_id, name, tensors=plain.state_dict(), pickled=pickled)
    extractor = load(card, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path)
    assert extractor.params == card.params, "the catalog's count is what loads, without the classifier"
    features, probs = extractor.forward(pixels(card))
    with torch.inference_mode():
        wanted = plain.forward_head(plain.forward_features(normalised(card)), pre_logits=True)
        logits = plain(normalised(card))
    assert wanted.std(dim=0).max() > 1e-3
    assert torch.allclose(features, wanted, rtol=1e-5, atol=1e-6)
    assert probs is not None
    assert torch.allclose(probs, logits.softmax(dim=1), rtol=1e-5, atol=1e-7)
    assert extractor.feature_dim == card.feature_dim


def test_a_timm_entry_with_other_tensors_is_a_mismatch(tmp_path: Path) -> None:
    (card,) = import_timm("test_resnet.r160_in1k")
    table = random_timm("test_resnet.r160_in1k").state_dict()
    table.pop("layer4.0.bn2.weight")
    assert card.hub_id is not None
    publish(tmp_path, card.hub_id, "model.safetensors", tensors=table)
    with pytest.raises(WeightsMismatch, match=r"1 missing \(layer4\.0\.bn2\.weight\)"):
        load(card, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path)


def test_a_damaged_or_unsafe_registry_file_is_refused(tmp_path: Path) -> None:
    (card,) = import_timm("test_resnet.r160_in1k")
    assert card.hub_id is not None
    path = publish(tmp_path / "a", card.hub_id, "model.safetensors", tensors=random_timm("test_resnet").state_dict())
    path.resolve().write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptCheckpoint):
        load(card, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path / "a")
    (clip,) = import_open_clip("RN50.openai")
    assert clip.hub_id is not None
    for entry, name in ((card, "pytorch_model.bin"), (clip, "open_clip_pytorch_model.bin")):
        whole: Any = {"state_dict": random_timm("test_resnet")}
        publish(tmp_path / name, entry.hub_id or "", name, tensors=whole, pickled=True)
        with pytest.raises(UnsafeCheckpoint):
            load(entry, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path / name)


@pytest.mark.parametrize("uri", ["hf-hub:org/own", f"hf-hub:org/own@{COMMIT}", "hf-hub:org/own@main/model.safetensors"])
def test_a_hub_reference_loads_from_the_cache(tmp_path: Path, uri: str) -> None:
    publish(tmp_path, "org/own", "model.safetensors", tensors=random_timm("test_resnet").state_dict())
    card = ModelCard(
        name="own", library="timm", architecture="test_resnet", tag="own", weights=WeightsRef(uri=uri),
        preprocess=PreprocessConfig(input_size=(3, 64, 64)),
    )  # fmt: skip
    assert load(card, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path).num_classes == 1000


def test_an_open_clip_tower_loads_from_the_cache(tmp_path: Path) -> None:
    (card,) = import_open_clip("RN50-quickgelu.openai")
    torch.manual_seed(0)
    model = open_clip().create_model("RN50-quickgelu", pretrained_text=False).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    assert card.hub_id is not None
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    publish(tmp_path, card.hub_id, "open_clip_model.safetensors", tensors=half)
    extractor = load(card, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path)
    assert extractor.params == card.params, "the catalog's count is what loads, without the classifier"
    features, probs = extractor.forward(pixels(card))
    with torch.inference_mode():
        wanted = model.encode_image(normalised(card))
    assert torch.allclose(features, wanted, rtol=1e-5, atol=1e-6)
    assert probs is None
    assert extractor.feature_dim == card.feature_dim == 1024
    path = fetch(card.weights, cache_dir=tmp_path, library="open_clip", hub_cache_dir=tmp_path).path.resolve()
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CorruptCheckpoint):
        load(card, device="cpu", cache_dir=tmp_path, hub_cache_dir=tmp_path)
    half.pop("visual.conv1.weight")
    other = tmp_path / "other"
    publish(other, card.hub_id, "open_clip_model.safetensors", tensors=half)
    with pytest.raises(WeightsMismatch, match=r"visual\.conv1\.weight"):
        load(card, device="cpu", cache_dir=tmp_path, hub_cache_dir=other)


def test_what_is_not_cached_is_unreachable_and_worth_another_try(tmp_path: Path) -> None:
    for uri in ("timm:resnet50.a1_in1k", "hf-hub:org/none/w.bin"):
        with pytest.raises(HubUnreachable):
            fetch(WeightsRef(uri=uri), cache_dir=tmp_path, hub_cache_dir=tmp_path)


def test_entries_that_no_hub_holds_are_not_found(tmp_path: Path) -> None:
    for uri, reason in (
        ("timm:legacy_senet154.in1k", "publishes it at"),
        ("timm:resnet50.of_nobody", "no such entry"),
        ("open_clip:ViT-B-32.of_nobody", "no such entry"),
    ):
        with pytest.raises(WeightsNotFound, match=reason):
            fetch(WeightsRef(uri=uri), cache_dir=tmp_path, hub_cache_dir=tmp_path)


def test_hugging_faces_own_cache_is_found(tmp_path: Path) -> None:
    path = publish(tmp_path, "org/own", "model.safetensors", tensors={"a": torch.ones(1)})
    code = (
        "from pathlib import Path; from zoo.catalog import WeightsRef; from zoo.weights import fetch; "
        "print(fetch(WeightsRef(uri='hf-hub:org/own'), cache_dir=Path('.')).path)"
    )
    environment: dict[str, Any] = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == str(path), done.stderr


def test_a_hub_whose_name_nobody_knows_is_not_tried_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.invalid")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: pytest.fail("the hub's client tries again"))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(HubUnreachable, match=r"hub\.invalid cannot be looked up"):
        fetch(WeightsRef(uri="hf-hub:nobody/nothing"), cache_dir=tmp_path, hub_cache_dir=tmp_path)
