"""A source of models: yields a card for each that matches; nothing is fetched or built."""

import fnmatch
import os
from collections.abc import Iterator
from pathlib import Path

from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef


def cards(pattern: str, /) -> Iterator[ModelCard]:
    for path in sorted(Path(os.environ["TOYBOX"]).glob("*.safetensors")):
        name = f"toybox.{path.stem}"
        if fnmatch.fnmatchcase(name, pattern):
            yield ModelCard(
                name=name,
                library="timm",
                architecture="test_resnet",
                tag=path.stem,
                weights=WeightsRef(uri=f"file:{path}"),
                preprocess=PreprocessConfig(input_size=(3, 32, 32), crop_pct=1.0),
            )
