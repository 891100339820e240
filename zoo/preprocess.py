"""From image bytes to the uint8 pixels a model sees, exactly as timm's and open_clip's evaluation transforms do.

Rules, in this order:
    orientation   the EXIF orientation is applied: labels were given by people who saw the image upright
    transparency  composited over white: the colour under a transparent pixel is arbitrary
    16 bit grey   0..65535 is mapped to 0..255 linearly; never stretched by image, which would erase differences
    other modes   palette, grey, CMYK, YCbCr, LAB, HSV and 1 bit as PIL converts them; colour profiles are ignored
    refused       floating point and 32-bit images beyond 16 bits, for they have no agreed range
    animation     the first frame
    resize, crop  `PreprocessConfig.signature`; normalising is left to the device
"""

import io
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import assert_never

import numpy as np
import torch
from PIL import Image, ImageOps

from zoo.catalog import DECODER_VERSION, Interpolation, PreprocessConfig
from zoo.errors import BadImage

__all__ = ["DECODER_VERSION", "decode", "prepare", "to_rgb"]

MAX_PIXELS = 64_000_000

_FILTERS: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# What PIL's readers let through on damaged files; Warning counts where the caller turned warnings into errors.
_DAMAGES = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError, MemoryError),
    *(AttributeError, RuntimeError, struct.error, zlib.error, Warning),
)
_BYTES_A_PIXEL = 4  # as PIL keeps RGB
_ALPHA = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def decode(
    data: bytes, /, *, max_pixels: int = MAX_PIXELS, reserve: Callable[[int], None] | None = None
) -> Image.Image:
    """Upright RGB image of the bytes. Raises BadImage, never PIL's own errors.

    `reserve` is told how many bytes the pixels will take before any is decoded, and may wait until there is room.
    """
    with _as_bad_image():
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > max_pixels:
            raise BadImage(f"{image.width}x{image.height} is over the cap of {max_pixels} pixels")
    if reserve is not None:
        reserve(image.width * image.height * _BYTES_A_PIXEL)
    with _as_bad_image():
        return to_rgb(image)


@contextmanager
def _as_bad_image() -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("over the decoder's cap of pixels") from error
    except _DAMAGES as error:
        raise BadImage(f"cannot be decoded: {type(error).__name__}") from error


def to_rgb(image: Image.Image, /) -> Image.Image:
    """Applies the rules for orientation, transparency and depth."""
    image.load()
    image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode.startswith("I"):
        return _from_integers(image)
    if mode == "F":
        raise BadImage("floating point pixels have no agreed range")
    if mode in _ALPHA or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def prepare(image: Image.Image, config: PreprocessConfig, /) -> torch.Tensor:
    """Resized and cropped pixels, uint8 `[3, H, W]`, of an RGB image."""
    _, height, width = config.input_size
    scaled = (math.floor(height / config.crop_pct), math.floor(width / config.crop_pct))
    match config.crop_mode:
        case "squash":
            size = scaled
        case "center":
            size = _shorter_side(image, scaled)
        case "border":
            size = _keep_ratio(image, scaled, longest=True)
        case _:
            assert_never(config.crop_mode)
    if (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), _FILTERS[config.interpolation])
    image = _crop_or_pad(image, height, width, config.fill if config.crop_mode == "border" else (0, 0, 0))
    # Height, width, channel in memory, as it comes and as convolutions like it.
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)


def _from_integers(image: Image.Image, /) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise BadImage("32-bit pixels beyond 0..65535 have no agreed range")
    return Image.fromarray(np.round(values / 257.0).astype(np.uint8)).convert("RGB")


def _shorter_side(image: Image.Image, scaled: tuple[int, int], /) -> tuple[int, int]:
    if scaled[0] != scaled[1]:
        return _keep_ratio(image, scaled, longest=False)
    side = scaled[0]
    # torchvision truncates the longer side, timm's ratio rule rounds both: each is followed where it is used.
    if image.width <= image.height:
        return int(side * image.height / image.width), side
    return side, int(side * image.width / image.height)


def _keep_ratio(image: Image.Image, scaled: tuple[int, int], /, *, longest: bool) -> tuple[int, int]:
    ratios = (image.height / scaled[0], image.width / scaled[1])
    ratio = max(ratios) if longest else min(ratios)
    return max(1, round(image.height / ratio)), max(1, round(image.width / ratio))


def _crop_or_pad(image: Image.Image, height: int, width: int, fill: tuple[int, int, int], /) -> Image.Image:
    short_h, short_w = max(0, height - image.height), max(0, width - image.width)
    if short_h or short_w:
        canvas = Image.new("RGB", (image.width + short_w, image.height + short_h), fill)
        canvas.paste(image, (short_w // 2, short_h // 2))
        image = canvas
    top = round((image.height - height) / 2.0)
    left = round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))
