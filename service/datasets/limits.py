"""How much of anything a dataset may hold, and the meter that watches it while an archive is read."""

from collections.abc import Callable
from dataclasses import dataclass, fields

from service.core.errors import Cancelled
from service.datasets.errors import CompressionBomb, TooLarge, TooManyEntries

# Pillow itself refuses an image of more than twice its warning threshold, whatever the caller allows.
_PILLOW_REFUSES_PIXELS = 178_956_970
_ENTRIES_BETWEEN_CHECKS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    max_upload_bytes: int = 20 * 2**30
    max_entries: int = 2_000_000
    max_unpacked_bytes: int = 100 * 2**30
    max_ratio: float = 200.0
    ratio_floor_bytes: int = 64 * 2**20  # a few flat-coloured BMP files compress a thousandfold and harm nobody
    max_image_bytes: int = 256 * 2**20
    max_image_pixels: int = 120_000_000
    max_classes: int = 100_000
    max_manifest_bytes: int = 256 * 2**20
    max_inspect_bytes: int = 4 * 2**30  # a compressed tar is inflated to be walked; past this the worker does the rest
    max_in_flight_bytes: int = 512 * 2**20

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"{field.name} must be positive.")
        if self.max_image_pixels > _PILLOW_REFUSES_PIXELS:
            raise ValueError(f"max_image_pixels must not exceed {_PILLOW_REFUSES_PIXELS:,}.")


class Meter:
    """Counts what was declared and what was really inflated; raises as soon as either passes a limit."""

    __slots__ = ("_cancelled", "archive_bytes", "declared_bytes", "entries", "inflated_bytes", "limits")

    def __init__(self, limits: Limits, /, *, archive_bytes: int, cancelled: Callable[[], bool]) -> None:
        self.limits = limits
        self.archive_bytes = archive_bytes
        self.entries = 0
        self.declared_bytes = 0
        self.inflated_bytes = 0
        self._cancelled = cancelled

    def entry(self, name: str, size: int, /) -> None:
        self.entries += 1
        if self.entries > self.limits.max_entries:
            raise TooManyEntries(f"The archive holds more than {self.limits.max_entries:,} files")
        if self.entries % _ENTRIES_BETWEEN_CHECKS == 0:
            self.check_cancelled()
        self.declared_bytes += size
        self._check(self.declared_bytes, name)

    def inflated(self, count: int, name: str = "", /) -> None:
        self.inflated_bytes += count
        self._check(self.inflated_bytes, name)

    def rewind(self) -> None:
        """Begin another pass over the same archive."""
        self.entries = self.declared_bytes = self.inflated_bytes = 0

    def check_cancelled(self) -> None:
        if self._cancelled():
            raise Cancelled("Reading the dataset was cancelled.")

    def _check(self, total: int, name: str, /) -> None:
        limits = self.limits
        if total > limits.max_unpacked_bytes:
            raise TooLarge(f"Unpacked, it holds more than {limits.max_unpacked_bytes:,} bytes", where=name)
        if total > limits.ratio_floor_bytes and total > limits.max_ratio * self.archive_bytes:
            raise CompressionBomb(
                f"It unpacks to more than {limits.max_ratio:g} times its {self.archive_bytes:,} bytes", where=name
            )
