"""Turns the InceptionV3 that npm's nsfwjs ships into a file that timm's inception_v3 takes; needs npm, and node of it.

python -m benchmarks.truth.nsfwjs        writes .cache/zoo/inception_v3_nsfwjs.safetensors; the pool has the model then

The package holds Keras layers for TensorFlow.js: each weight as bytes, with the least value and the step. Its 94
convolutions with their norms come in the order in which timm defines them, and every shape is compared. The norms have
no scale. TensorFlow's average pooling leaves the padding out where timm counts it: features differ a little at borders.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks.truth.pool import CONVERTED
from zoo.libraries import timm

PACKAGE = "nsfwjs@4.4.0"
SHA256 = "585cd178f3b994337c4d10a87b080d342fc52f8b9bf0085c4d1f345a3a1c5382"
SHARDS = 6
INSIDE = "package/dist/models/inception_v3"
READ = "const f = require(process.argv[1]); process.stdout.write(JSON.stringify(f.default || f))"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        packed = subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True)
        archive = Path(folder, packed.stdout.decode().split()[-1])
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            print(f"{PACKAGE} is not the package that was looked at: another hash", file=sys.stderr)
            return 1
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        model = _read(Path(folder, INSIDE, "model.min.js"))
        shards = (_read(Path(folder, INSIDE, f"group1-shard{n}of{SHARDS}.min.js")) for n in range(1, SHARDS + 1))
        content = b"".join(b64decode(shard) for shard in shards)
    arrays = dequantised(model["weightsManifest"][0]["weights"], content)
    CONVERTED.parent.mkdir(parents=True, exist_ok=True)
    save_file(renamed(arrays), CONVERTED)
    print(f"{CONVERTED.name}: {hashlib.sha256(CONVERTED.read_bytes()).hexdigest()}")
    return 0


def _read(path: Path) -> Any:
    return json.loads(subprocess.run(["node", "-e", READ, path], check=True, capture_output=True).stdout)


def dequantised(weights: list[dict[str, Any]], content: bytes, /) -> dict[str, np.ndarray]:
    found, start = {}, 0
    for weight in weights:
        how, count = weight["quantization"], int(np.prod(weight["shape"]))
        steps = np.frombuffer(content, np.dtype(how["dtype"]), count, start)
        found[weight["name"]] = (steps * np.float32(how["scale"]) + np.float32(how["min"])).reshape(weight["shape"])
        start += steps.nbytes
    if start != len(content):
        raise ValueError(f"{len(content) - start} bytes belong to no weight")
    return found


def renamed(arrays: dict[str, np.ndarray], /) -> dict[str, torch.Tensor]:
    """Under timm's names, convolutions as [out, in, height, width]."""
    state = timm().create_model("inception_v3", pretrained=False, num_classes=0).state_dict()
    layers = [name.removesuffix(".conv.weight") for name in state if name.endswith(".conv.weight")]
    for number, layer in enumerate(layers, start=1):
        norm = f"batch_normalization_{number}/"
        own = {
            "conv.weight": arrays[f"conv2d_{number}/kernel"].transpose(3, 2, 0, 1),
            "bn.bias": arrays[f"{norm}beta"],
            "bn.running_mean": arrays[f"{norm}moving_mean"],
            "bn.running_var": arrays[f"{norm}moving_variance"],
        }
        own["bn.weight"] = np.ones_like(own["bn.bias"])
        for name, value in own.items():
            if state[f"{layer}.{name}"].shape != value.shape:
                raise ValueError(f"{layer}.{name} is {tuple(state[f'{layer}.{name}'].shape)}, not {value.shape}")
            state[f"{layer}.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
    return {name: value.contiguous() for name, value in state.items()}


if __name__ == "__main__":
    sys.exit(main())
