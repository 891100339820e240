"""Small images in every format, good and bad, made when asked for: nothing binary is kept in the repository."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(
    seed: int = 0, *, kind: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (12, 10), **options
) -> bytes:
    rng = np.random.default_rng(seed)
    width, height = size
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (height, width), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def palette_with_alpha() -> bytes:
    image = Image.new("P", (8, 8))
    image.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
    image.putdata(list(range(64)))
    out = io.BytesIO()
    image.save(out, "PNG", transparency=bytes(range(256)))
    return out.getvalue()


def animated(kind: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), (40 * index, 0, 0)) for index in range(3)]
    out = io.BytesIO()
    frames[0].save(out, kind, save_all=True, append_images=frames[1:])
    return out.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_claiming(width: int, height: int) -> bytes:
    """A few bytes that announce an image of any size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 64)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def gif_claiming(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0, 0, 0)
        + b","
        + struct.pack("<HHHHB", 0, 0, width, height, 0)
        + b"\x02\x02\x4c\x01\x00;"
    )


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="1" height="1"/></svg>'
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)

# Everything here is skipped by name, and the reason says the given words.
UNREADABLE = {
    "zero bytes": (b"", "empty"),
    "only zeros": (bytes(500), "zero bytes"),
    "text": (b"this is not an image\n" * 9, "no JPEG"),
    "svg": (SVG, "SVG"),
    "svg after a declaration": (b"<?xml version='1.0'?>\n" + SVG, "SVG"),
    "heic": (HEIC, "HEIC"),
    "web page": (b"<!DOCTYPE html><p>404</p>", "web page"),
    "zip": (b"PK\3\4" + bytes(60), "zip archive"),
    "truncated jpeg": (picture(1, kind="JPEG", size=(64, 64))[:-400], "cut short"),
    "truncated png": (picture(2, size=(64, 64))[:-4000], "cut short"),
    "truncated webp": (picture(3, kind="WEBP", size=(64, 64))[:-500], "damaged"),
    "truncated bmp": (picture(4, kind="BMP", size=(64, 64))[:-500], "cut short"),
    "truncated gif": (picture(5, kind="GIF", size=(64, 64))[:-900], "cut short"),
    "truncated tiff": (picture(6, kind="TIFF", size=(64, 64))[:-500], "cut short"),
    "jpeg header only": (picture(7, kind="JPEG")[:20], "no JPEG"),
    "png of 0 x 0": (png_claiming(0, 0), "no JPEG"),
    "png with damaged data": (picture(8, size=(64, 64)).replace(b"IDAT", b"IDAT\xff\xff", 1), "damaged"),
}
BOMBS = {
    "png": png_claiming(50_000, 50_000),
    "gif": gif_claiming(65_000, 65_000),
    "just over": png_claiming(12_001, 10_000),
}
READABLE = {
    "1 x 1": picture(size=(1, 1)),
    "cmyk jpeg": picture(kind="JPEG", mode="CMYK"),
    "grey jpeg": picture(kind="JPEG", mode="L"),
    "progressive jpeg": picture(kind="JPEG", size=(300, 200), progressive=True),
    "16-bit png": picture(mode="I;16"),
    "1-bit png": picture(mode="1"),
    "palette with alpha": palette_with_alpha(),
    "grey with alpha": picture(mode="LA"),
    "rgba webp": picture(kind="WEBP", mode="RGBA"),
    "bmp": picture(kind="BMP"),
    "gif": picture(kind="GIF"),
    "tiff lzw": picture(kind="TIFF", compression="tiff_lzw"),
    "animated gif": animated("GIF"),
    "animated webp": animated("WEBP"),
    "animated png": animated("PNG"),
    "multi-page tiff": animated("TIFF"),
}
