"""How many images a forward pass takes."""

import time

import torch

from zoo.extract import Extractor

ON_CPU = 4  # few enough that a layer's output stays in the cache: of 1, 2, 4 and 8, the fastest of three architectures
LARGEST_ON_CPU = 16  # whatever is set: a layer of more images takes long, and a pass ends between two layers alone
LARGEST = 256
WORTH_DOUBLING = 1.05


def batch_size(extractor: Extractor, setting: int, /) -> int:
    """The setting, or what is fast: on a GPU it is measured, on a CPU it has been."""
    if setting:
        return setting
    return ON_CPU if extractor.device.type == "cpu" else measured(extractor, largest=LARGEST)


def measured(extractor: Extractor, /, *, largest: int) -> int:
    """Doubled while that gives more images a second and fits."""
    best, best_rate = 1, 0.0
    size = 8
    while size <= largest:
        try:
            rate = _rate(extractor, size)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if rate < best_rate * WORTH_DOUBLING:
            break
        best, best_rate, size = size, rate, size * 2
    return best


def _rate(extractor: Extractor, size: int, /) -> float:
    pixels = torch.full((size, *extractor.card.preprocess.input_size), 128, dtype=torch.uint8, device=extractor.device)
    passes = 3
    for number in range(passes + 2):
        if number == 2:  # the first choose algorithms
            _wait(extractor.device)
            started = time.perf_counter()
        extractor.launch(pixels)
    _wait(extractor.device)
    return passes * size / (time.perf_counter() - started)


def _wait(device: torch.device, /) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
