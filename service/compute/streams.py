"""What a pipeline is given: its bounds, and one stream of images a model."""

from dataclasses import dataclass, field

from service.compute.causes import cause_of
from service.embeddings.protocol import Rows
from service.jobs.fate import Cause
from zoo.extract import Extractor


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the pipeline, whatever the number of images.

    Attributes:
        threads: that decode; on a CPU they compute as well.
        pixel_bytes: of decoded images, half of them at full size and half resized.
        feature_bytes: of rows not yet in a segment.
        segment_rows: rows a segment.
    """

    threads: int
    pixel_bytes: int
    feature_bytes: int
    segment_rows: int


@dataclass(slots=True)
class Rowed:
    """Rows that are not yet in a segment."""

    hashes: list[bytes] = field(default_factory=list)
    features: list[Rows] = field(default_factory=list)
    probs: list[Rows] = field(default_factory=list)
    bytes: int = 0


@dataclass(slots=True, eq=False)
class Stream:
    """One model's part of the work: what it lacks, what became of it, and the rows not yet in a segment."""

    model: str
    extractor: Extractor
    lacks: frozenset[bytes]
    batch: int
    kept: Rowed = field(default_factory=Rowed)
    images: int = 0
    seconds: float = 0.0
    failed: str | None = None
    cause: Cause = Cause.BROKEN

    def fail(self, error: Exception, /) -> None:
        self.failed, self.cause = f"{type(error).__name__}: {error}", cause_of(error)

    @property
    def signature(self) -> str:
        return self.extractor.card.preprocess.signature

    def add(self, hashes: list[bytes], rows: list[tuple[Rows, Rows | None]], /) -> int:
        """Keeps the rows; returns how many bytes they take."""
        before = self.kept.bytes
        self.kept.hashes.extend(hashes)
        for features, probs in rows:
            self.kept.features.append(features)
            self.kept.bytes += features.nbytes
            if probs is not None:
                self.kept.probs.append(probs)
                self.kept.bytes += probs.nbytes
        self.images += len(hashes)
        return self.kept.bytes - before

    def take(self) -> Rowed:
        """Hands out what is kept."""
        taken, self.kept = self.kept, Rowed()
        return taken
