"""The extractor of any card, whatever its model is given."""

from pathlib import Path

import torch

from zoo.catalog import ModelCard, Precision
from zoo.extract import Extractor, load
from zoo.text import TextExtractor, load_text

AnyExtractor = Extractor | TextExtractor


def load_any(
    card: ModelCard, /, *, device: torch.device | str, cache_dir: Path, precision: Precision = "float32"
) -> AnyExtractor:
    """Raises ZooError, as `zoo.extract.load` and `zoo.text.load_text` do; texts are embedded in float32 always."""
    if card.modality == "text":
        return load_text(card, device=device, cache_dir=cache_dir)
    return load(card, device=device, cache_dir=cache_dir, precision=precision)
