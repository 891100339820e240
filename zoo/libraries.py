"""The libraries that build architectures, imported on first use: they take seconds and pull in torchvision."""

import importlib
from typing import Any

from zoo.errors import BadCard
from zoo.torchvision_guard import prepare_torchvision


def timm() -> Any:
    prepare_torchvision()
    return importlib.import_module("timm")


def open_clip() -> Any:
    prepare_torchvision()
    return importlib.import_module("open_clip")


def transformers() -> Any:
    prepare_torchvision()
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise BadCard("text encoders need the extra: pip install 'zooscout[text]'") from error
