"""Models and images for the embedding benchmarks, and the plain script that they are compared with."""

import io
import json
import platform
import random
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from benchmarks.shared_models import SHARED, wheel_models
from service.compute.device import intra_op_threads
from zoo.build import bare
from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef
from zoo.errors import ZooError
from zoo.extract import Extractor, load
from zoo.libraries import timm

IMAGES = SHARED.parent / "images"


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def shared_extractors(cache: Path, device: str = "cpu") -> dict[str, Extractor]:
    manifest = SHARED / "manifest.json"
    if not manifest.is_file():
        print("no ../shared/data beside the project: weights are random, images generated", flush=True)
        return {}
    cards = [
        ModelCard(
            name=entry["name"],
            library="timm",
            architecture=entry["timm"],
            tag="shared",
            arch_kwargs=entry["arch_kwargs"],
            weights=WeightsRef(uri=f"file:{(SHARED / entry['file']).resolve()}", sha256=entry["sha256"]),
            preprocess=PreprocessConfig(input_size=entry["input_size"], mean=entry["mean"], std=entry["std"]),
        )
        for entry in json.loads(manifest.read_text(encoding="utf-8"))
    ]
    return {card.name: load(card, device=device, cache_dir=cache) for card in cards}


def random_extractors(cache: Path, device: str = "cpu") -> dict[str, Extractor]:
    """Eight models of one signature with random weights, for a machine without the shared ones."""
    from safetensors.torch import save_file

    found = {}
    for number, name in enumerate(["mobilenetv2_100", "resnet18", "mobilenetv3_large_100", "efficientnet_lite0"] * 2):
        torch.manual_seed(number)
        path = cache / f"{name}-{number}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(timm().create_model(name, num_classes=0).state_dict(), path)
        label = f"{name}.random{number}"
        card = ModelCard(
            name=label, library="timm", architecture=name, tag="random", weights=WeightsRef(uri=f"file:{path}")
        )
        found[label] = load(card, device=device, cache_dir=cache)
    return found


def wheel_extractors(cache: Path, device: str = "cpu") -> dict[str, Extractor]:
    found = {}
    for arguments in wheel_models():
        name, options = arguments[0], dict(zip(arguments[1::2], arguments[2::2], strict=True))
        side = int(options["--input-size"])
        mean, std = (tuple(float(v) for v in options[key].split(",")) for key in ("--mean", "--std"))
        card = ModelCard(
            name=name,
            library="timm",
            architecture=options["--arch"],
            tag="pypi",
            weights=WeightsRef(uri=options["--weights"], match="order"),
            preprocess=PreprocessConfig(
                input_size=(3, side, side),
                crop_pct=float(options.get("--crop-pct", 0.875)),
                mean=mean,  # type: ignore[arg-type]
                std=std,  # type: ignore[arg-type]
            ),
        )
        try:
            found[name] = load(card, device=device, cache_dir=cache)
        except ZooError as error:
            print(f"{name} is left out: {error}", flush=True)
    return found


def some(extractors: Mapping[str, Extractor], names: Iterable[str]) -> list[Extractor]:
    """Those of the names that there are, else the first two."""
    return [extractors[name] for name in names if name in extractors] or list(extractors.values())[:2]


def shared_images(dataset: str, count: int) -> list[bytes]:
    return [blob for blob, _ in labelled(dataset, count)]


def labelled(dataset: str, count: int) -> list[tuple[bytes, str]]:
    """Training images and their classes, dealt from the classes in turn."""
    with zipfile.ZipFile(IMAGES / f"{dataset}.zip") as archive:
        by_class: dict[str, list[str]] = {}
        for name in sorted(archive.namelist()):
            parts = name.split("/")
            if name.endswith(".png") and "train" in parts:
                by_class.setdefault(parts[-2], []).append(name)
        turns = max(map(len, by_class.values()))
        dealt = [(names[i], label) for i in range(turns) for label, names in by_class.items() if i < len(names)]
        return [(archive.read(name), label) for name, label in dealt[:count]]


def jpegs(count: int, size: tuple[int, int] = (500, 375)) -> list[bytes]:
    """Distinct photographs of nothing: noise at several scales, quality 90."""
    dice = random.Random(0)
    made = []
    for _ in range(count):
        numbers = np.random.default_rng(dice.getrandbits(32))
        image = Image.new("RGB", size)
        for side in (4, 16, 64, 256):
            layer = Image.fromarray(numbers.integers(0, 256, (side, side, 3), dtype=np.uint8))
            image = Image.blend(image, layer.resize(size, Image.Resampling.BICUBIC), 0.5)
        out = io.BytesIO()
        image.filter(ImageFilter.GaussianBlur(0.7)).save(out, "JPEG", quality=90)
        made.append(out.getvalue())
    return made


class _Plain(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, blobs: Sequence[bytes], transform: object) -> None:
        self._blobs, self._transform = blobs, transform

    def __len__(self) -> int:
        return len(self._blobs)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self._blobs[index])).convert("RGB")
        return self._transform(image)  # type: ignore[operator,no-any-return]


def plain_timm(extractor: Extractor, blobs: Sequence[bytes], *, workers: int, batch: int = 32) -> float:
    """Seconds of what one would write with timm alone: float32, its transform, a DataLoader, torch's own threads."""
    card = extractor.card
    model = bare(card, num_classes=0).eval()  # the arithmetic is the same whatever the weights
    config = card.preprocess
    transform = timm().data.create_transform(
        input_size=config.input_size,
        interpolation=config.interpolation,
        mean=config.mean,
        std=config.std,
        crop_pct=config.crop_pct,
    )
    loader = torch.utils.data.DataLoader(_Plain(blobs, transform), batch_size=batch, num_workers=workers)
    with intra_op_threads(torch.get_num_threads()), torch.inference_mode():
        model(torch.zeros(batch, *config.input_size))
        started = time.perf_counter()
        for inputs in loader:
            model(inputs)
        return time.perf_counter() - started
