"""Makes `import torchvision`, hence timm and open_clip, work beside a torch built for another device.

The torchvision on PyPI is built for CUDA. Beside the CPU build of torch its extension cannot be loaded, and the import
then fails on operators whose schema nobody defined. No model of the zoo calls these operators; their schemas suffice.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def prepare_torchvision() -> None:
    """Call before the first import of timm or open_clip. Does nothing where torchvision's own operators load."""
    if "torchvision" not in sys.modules:
        _operators()


@cache
def _operators() -> torch.library.Library | None:
    # Cached because the schemas live only as long as the Library object does.
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    extensions = sorted(p for p in Path(spec.origin).parent.glob("_C*") if p.suffix in (".so", ".pyd", ".dylib"))
    try:
        for extension in extensions:
            torch.ops.load_library(str(extension))  # type: ignore[no-untyped-call]
    except OSError:
        extensions = []
    if extensions:
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)  # type: ignore[no-untyped-call]
    return library
