"""The libraries that build architectures, imported on first use: they take seconds and pull in torchvision."""

import importlib
from typing import Any

from zoo.torchvision_guard import prepare_torchvision


def timm() -> Any:
    prepare_torchvision()
    return importlib.import_module("timm")


def open_clip() -> Any:
    prepare_torchvision()
    return importlib.import_module("open_clip")
