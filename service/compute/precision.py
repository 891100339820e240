"""In which precision a model computes: bfloat16 where the device has it and a probe finds that nothing is lost."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import structlog
import torch

from estimators.evidence import Evidence
from estimators.panel import evaluate
from service.compute.device import device_name, native_bfloat16
from service.core.settings import PrecisionChoice
from service.embeddings.precision import Decision
from zoo.catalog import ModelCard, Precision, extractor_id
from zoo.errors import ExtractionFailed
from zoo.extract import Extractor

log = structlog.get_logger(__name__)

PROBE_IMAGES = 48
PROBE_SCORES = ("logme", "knn")
LEAST_COSINE = 0.995
SCORE_TOLERANCE = 0.5  # standard errors of the score on the images of the probe
LEAST_GAIN = 1.1  # times the images a second
MOST_PASSES = 5  # of each precision, while they take less than so many seconds
PROBE_SECONDS = 1.0

Sample = Callable[[ModelCard], tuple[torch.Tensor, torch.Tensor]]  # pixels and labels of a few real images


@dataclass(frozen=True, slots=True)
class PrecisionPolicy:
    """What the settings ask for, and what a project has decided."""

    wanted: PrecisionChoice
    decided: Callable[[str], Precision | None]  # by the extractor's id in float32
    settle: Callable[[str, Decision], Precision]


@dataclass(frozen=True, slots=True)
class Parity:
    """bfloat16 against float32 on the same images.

    Attributes:
        images: how many.
        cosine: of the features, mean over the images.
        least_cosine: over the images.
        scores: by estimator: value in float32, in bfloat16, and the standard error in float32.
        gain: images a second in bfloat16 over float32.
        refused: why float32 stays; None where it need not.
    """

    images: int
    cosine: float
    least_cosine: float
    scores: Mapping[str, tuple[float, float, float | None]]
    gain: float
    refused: str | None


def extractor_for(
    card: ModelCard,
    /,
    *,
    policy: PrecisionPolicy,
    load: Callable[[ModelCard, Precision], Extractor],
    sample: Sample,
) -> Extractor:
    """The card's extractor in the precision that the project has decided on, or decides on now.

    Raises:
        ZooError: The model cannot be loaded.
    """
    precision: Precision | None = None
    if card.weights.sha256 is not None:
        precision = policy.decided(extractor_id(card, weights_sha256=card.weights.sha256))
    extractor = load(card, precision or "float32")
    if precision is None:
        # Its weights may have been seen just now, and the same ones decided upon under another name.
        exact = extractor.extractor_id
        precision = policy.decided(exact) or policy.settle(exact, decide(extractor, policy.wanted, sample))
        if precision != "float32":
            extractor = load(extractor.card, precision)
    if precision == "bfloat16" and not native_bfloat16(extractor.device):
        log.warning("precision.not_native", model=card.name, precision=precision, device=str(extractor.device))
    return extractor


def decide(exact: Extractor, wanted: PrecisionChoice, sample: Sample, /) -> Decision:
    device = device_name(exact.device)
    if wanted != "auto":
        return Decision(wanted, {"reason": "asked for in the settings"}, device)
    if not native_bfloat16(exact.device):
        return Decision("float32", {"reason": "the device has no native bfloat16"}, device)
    try:
        found = compare(exact, exact.cast("bfloat16"), *sample(exact.card))
    except (ExtractionFailed, RuntimeError, ValueError) as error:
        return Decision("float32", {"reason": f"bfloat16 does not run: {type(error).__name__}: {error}"[:500]}, device)
    return Decision("bfloat16" if found.refused is None else "float32", asdict(found), device)


def compare(exact: Extractor, lower: Extractor, pixels: torch.Tensor, labels: torch.Tensor, /) -> Parity:
    """Features, scores and speed of two precisions of one model."""
    a, b, gain = _in_both(exact, lower, pixels)
    cosines = torch.nn.functional.cosine_similarity(a.double(), b.double())
    cosine = float(cosines.mean())
    scores: dict[str, tuple[float, float, float | None]] = {}
    apart: list[str] = []
    for name in PROBE_SCORES:
        one, two = (evaluate(Evidence(labels=labels, features=f), [name])[name].score for f in (a, b))
        if one is None or two is None:
            if (one is None) != (two is None):
                apart.append(name)
            continue
        scores[name] = one.value, two.value, one.stderr
        if one.stderr is not None and abs(two.value - one.value) > SCORE_TOLERANCE * one.stderr:
            apart.append(name)
    refused = None
    if not cosine >= LEAST_COSINE:
        refused = f"features differ: cosine {cosine:.4f}"
    elif apart:
        refused = f"scores differ: {', '.join(apart)}"
    elif not scores:
        refused = "no score can be compared on these images"
    elif gain < LEAST_GAIN:
        refused = f"it is not faster: {gain:.2f} times the images a second"
    return Parity(len(pixels), cosine, float(cosines.min()), scores, gain, refused)


def spread(labels: npt.NDArray[np.int64], count: int, /) -> list[int]:
    """Positions of `count` images, dealt from the classes in turn, so that few images are of few classes."""
    by_class = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    a_class = max(4, count // max(1, len(by_class)))  # a score needs several of each
    dealt = [i for turn in zip_longest(*[m[:a_class] for m in by_class[: count // 4]]) for i in turn if i is not None]
    return sorted(dealt[:count])


def _in_both(exact: Extractor, lower: Extractor, pixels: torch.Tensor, /) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Features in both precisions, and how many times the images a second: of the quickest passes, taken in turn."""
    size = len(pixels) if exact.device.type == "cuda" else 4
    quickest = {exact: math.inf, lower: math.inf}
    for extractor in quickest:
        extractor.forward(pixels[:size])  # the first pass chooses algorithms
    rows: dict[Extractor, torch.Tensor] = {}
    began = time.perf_counter()
    for number in range(MOST_PASSES):
        if number and time.perf_counter() - began > PROBE_SECONDS:
            break
        for extractor in quickest:
            started = time.perf_counter()
            rows[extractor] = torch.cat([extractor.forward(part)[0].cpu() for part in torch.split(pixels, size)])
            quickest[extractor] = min(quickest[extractor], time.perf_counter() - started)
    return rows[exact], rows[lower], quickest[exact] / quickest[lower]
