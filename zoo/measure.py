"""`python -m zoo.measure`: counts what only a built architecture knows, on the meta device, into the package's data.

No weights are made or fetched: a meta tensor has a shape and no numbers. An architecture that cannot be built or run
this way is left out, and its cards say None.
"""

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo.libraries import open_clip, timm
from zoo.sources import Measured, measurement_key

DATA = Path(__file__).parent / "data" / "architectures.json"


def measure_timm(name: str, height: int, width: int, /) -> Measured:
    """Parameters and multiply-adds without the head, and the width of the pooled features, of a timm model."""
    with torch.device("meta"):
        model = timm().create_model(name, pretrained=False, num_classes=0).eval()

    def run(images: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
        return features

    return _measure(model, run, height, width)


def measure_open_clip(architecture: str, height: int, width: int, /) -> Measured:
    """The same of an open_clip model's image tower."""
    with torch.device("meta"):
        model = open_clip().create_model(architecture, pretrained_text=False, load_weights=False, device="meta")
    tower = model.visual.eval()

    def run(images: torch.Tensor) -> torch.Tensor:
        output = tower(images)
        features: torch.Tensor = output[0] if isinstance(output, tuple) else output
        return features

    return _measure(tower, run, height, width)


def _measure(
    module: torch.nn.Module, run: Callable[[torch.Tensor], torch.Tensor], height: int, width: int, /
) -> Measured:
    params = sum(p.numel() for p in module.parameters())
    module.requires_grad_(requires_grad=False)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), torch.device("meta"), counter:
        features = run(torch.empty(1, 3, height, width))
    # The counter reports two operations for each multiply-add.
    return Measured(params, counter.get_total_flops() // 2, int(features.shape[1]) if features.ndim == 2 else None)


def _todo(library: str, /) -> Iterator[tuple[str, str, int, int]]:
    seen = set()
    if library == "timm":
        for name in timm().list_pretrained():
            _, height, width = timm().get_pretrained_cfg(name).input_size
            key = measurement_key(name.partition(".")[0], height, width)
            if key not in seen:
                seen.add(key)
                yield key, name, height, width
        return
    for architecture, _ in open_clip().list_pretrained():
        size = open_clip().get_model_config(architecture)["vision_cfg"].get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        key = measurement_key(architecture, height, width)
        if key not in seen:
            seen.add(key)
            yield key, architecture, height, width


def main() -> None:
    """Measures what the data does not hold yet; `--again` measures everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="measure everything, not only what is missing")
    again = parser.parse_args().again
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    data: dict[str, Any] = {"timm": {}, "open_clip": {}}
    if DATA.exists() and not again:
        data = json.loads(DATA.read_text(encoding="utf-8"))
    data["measured_with"] = {
        "timm": timm().__version__,
        "open_clip": open_clip().__version__,
        "torch": torch.__version__.partition("+")[0],
    }
    measures: dict[str, Callable[[str, int, int], Measured]] = {"timm": measure_timm, "open_clip": measure_open_clip}
    for library, measure in measures.items():
        for number, (key, name, height, width) in enumerate(_todo(library)):
            if key in data[library]:
                continue
            try:
                data[library][key] = list(measure(name, height, width))
            except Exception as error:
                print(f"{library} {key}: {type(error).__name__}: {str(error)[:120]}", file=sys.stderr)  # noqa: T201
            if number % 50 == 0:
                _write(data)
    _write(data)


def _write(data: dict[str, Any], /) -> None:
    parts = [f'"measured_with": {json.dumps(data["measured_with"], sort_keys=True)}']
    for library in ("timm", "open_clip"):
        rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in sorted(data[library].items()))
        parts.append(f'"{library}": {{\n{rows}\n}}' if rows else f'"{library}": {{}}')
    DATA.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
