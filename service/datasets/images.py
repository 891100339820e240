"""Is this an image that can be decoded? Nothing here keeps pixels."""

import io
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import cast

from PIL import Image, UnidentifiedImageError

from service.datasets.errors import ImageBomb

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# Decoded at the same time by all threads together, so that the memory of many threads does not add up.
_PIXELS_AT_ONCE = 64_000_000


class UnreadableImageError(Exception):
    """The bytes are no image that can be decoded; the text is the reason, for the report."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Width and height as stored: an orientation in EXIF is not applied."""

    width: int
    height: int
    format: str
    mode: str
    animated: bool


class Decoder:
    """Decodes to check, in any number of threads."""

    __slots__ = ("_changed", "_free_pixels", "max_pixels")

    def __init__(self, *, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self._free_pixels = _PIXELS_AT_ONCE
        self._changed = Condition()

    def check(self, data: bytes, /, *, name: str) -> ImageFacts:
        """Decode the first frame. Raises UnreadableImageError, or ImageBomb, which ends the whole dataset."""
        if not data:
            raise UnreadableImageError("is empty (0 bytes)")
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                facts = self._facts(image, name)
                if facts.format == "JPEG":
                    # Every coded byte is still read, at an eighth of the size: a cut file is found all the same.
                    image.draft(None, (max(1, facts.width // 8), max(1, facts.height // 8)))
                with self._room_for(image.width * image.height):
                    image.load()
                    _require_agreed_range(image)
        except ImageBomb:
            raise
        except MemoryError as error:
            raise ImageBomb("An image needs more memory to decode than there is", where=name) from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageBomb(f"An image declares more than {self.max_pixels:,} pixels", where=name) from error
        except Exception as error:  # on damaged files Pillow's plugins raise anything, from KeyError to SyntaxError
            raise UnreadableImageError(_reason(data, error)) from error
        return facts

    @contextmanager
    def _room_for(self, pixels: int, /) -> Iterator[None]:
        needed = min(pixels, _PIXELS_AT_ONCE)
        with self._changed:
            self._changed.wait_for(lambda: self._free_pixels >= needed)
            self._free_pixels -= needed
        try:
            yield
        finally:
            with self._changed:
                self._free_pixels += needed
                self._changed.notify_all()

    def _facts(self, image: Image.Image, name: str, /) -> ImageFacts:
        width, height = image.size
        if width * height > self.max_pixels:
            raise ImageBomb(
                f"An image declares {width:,} x {height:,} pixels; the limit is {self.max_pixels:,}", where=name
            )
        if width < 1 or height < 1:
            raise UnreadableImageError(f"declares {width} x {height} pixels")
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        return ImageFacts(width, height, kind, image.mode, bool(getattr(image, "is_animated", False)))


def _require_agreed_range(image: Image.Image, /) -> None:
    """The pixels that no model could be shown: `zoo.preprocess` refuses them, and one would stop a whole ranking."""
    if image.mode == "F":
        raise UnreadableImageError("has floating-point pixels, which have no agreed range: convert it to 8 or 16 bits")
    if image.mode.startswith("I"):
        low, high = cast(tuple[float, float], image.getextrema())
        if low < 0 or high > 65535:
            raise UnreadableImageError("has pixels beyond 16 bits, which have no agreed range: convert it to 16 bits")


def quiet_pillow() -> AbstractContextManager[object]:
    """A context in which Pillow's warnings (odd EXIF, many pixels) are dropped: what matters is checked here.

    The warning filter belongs to the process: enter it once around a whole ingest, not in each thread.
    """
    return warnings.catch_warnings(action="ignore")


_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftypheic", "is a HEIC image, which is not read: convert it to JPEG"),
    (4, b"ftypheix", "is a HEIC image, which is not read: convert it to JPEG"),
    (4, b"ftypmif1", "is a HEIF image, which is not read: convert it to JPEG"),
    (4, b"ftypavif", "is an AVIF image, which is not read: convert it to JPEG or WebP"),
    (0, b"<svg", "is an SVG drawing, which is not read: render it to PNG"),
    (0, b"<?xml", "is XML text (an SVG drawing?), which is not read: render it to PNG"),
    (0, b"<!DOCTYPE", "is a web page, not an image"),
    (0, b"<html", "is a web page, not an image"),
    (0, b"%PDF", "is a PDF file, not an image"),
    (0, b"PK\3\4", "is a zip archive, not an image"),
    (0, b"\x1f\x8b", "is a gzip file, not an image"),
    (0, b"\0\0\0\x0cjP", "is a JPEG 2000 image, which is not read: convert it to PNG"),
    (0, b"8BPS", "is a Photoshop file, which is not read: convert it to PNG"),
)


def _reason(data: bytes, error: Exception, /) -> str:
    if isinstance(error, UnreadableImageError):
        return str(error)
    for at, magic, reason in _OTHERS:
        if data[at:].startswith(magic) if at else data[:200].lstrip().startswith(magic):
            return reason
    if isinstance(error, UnidentifiedImageError):
        if not data.strip(b"\0"):
            return "holds nothing but zero bytes"
        return "is no JPEG, PNG, WebP, BMP, GIF or TIFF image"
    if "truncated" in str(error).lower():
        return "is cut short"
    return "is damaged: it cannot be decoded"
