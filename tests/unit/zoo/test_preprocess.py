import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.catalog import PreprocessConfig
from zoo.errors import BadImage
from zoo.libraries import open_clip, timm
from zoo.preprocess import decode, prepare, to_rgb


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


sides = st.integers(1, 400)


@settings(max_examples=60, deadline=None)
@given(
    sides,
    sides,
    st.sampled_from([(224, 224), (240, 240), (64, 96), (96, 64)]),
    st.sampled_from([0.875, 0.9, 0.882, 0.95, 1.0]),
    st.sampled_from(["center", "squash", "border"]),
    st.sampled_from(["bilinear", "bicubic"]),
)
def test_pixels_are_those_of_timms_evaluation_transform(
    width: int, height: int, size: tuple[int, int], crop_pct: float, mode: Any, interpolation: Any
) -> None:
    if max(width, height) > 40 * min(width, height):
        return  # a sliver is resized to hundreds of thousands of pixels
    mean = (0.5, 0.25, 0.75)
    config = PreprocessConfig(
        input_size=(3, *size), crop_pct=crop_pct, crop_mode=mode, interpolation=interpolation, mean=mean,
        fill=(128, 64, 191),
    )  # fmt: skip
    transform = timm().data.create_transform(
        input_size=(3, *size),
        crop_pct=crop_pct,
        crop_mode=mode,
        interpolation=interpolation,
        mean=mean,
        normalize=False,
    )
    image = picture(width, height)
    if mode == "border" and min(width, height) * max(size) / crop_pct < 0.5 * max(width, height):
        return  # timm itself asks for a side of no pixels
    ours, theirs = prepare(image, config), transform(image)
    assert ours.dtype == torch.uint8
    assert torch.equal(ours, theirs)


@settings(max_examples=25, deadline=None)
@given(sides, sides, st.sampled_from(["shortest", "squash", "longest"]), st.sampled_from(["bilinear", "bicubic"]))
def test_pixels_are_those_of_open_clips_evaluation_transform(
    width: int, height: int, resize_mode: str, interpolation: Any
) -> None:
    if max(width, height) > 40 * min(width, height):
        return
    crop_mode: Any = {"shortest": "center", "squash": "squash", "longest": "border"}[resize_mode]
    config = PreprocessConfig(
        input_size=(3, 96, 96),
        crop_pct=1.0,
        crop_mode=crop_mode,
        interpolation=interpolation,
        mean=(0, 0, 0),
        std=(1, 1, 1),
    )
    transform = open_clip().image_transform(
        96, False, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), resize_mode=resize_mode, interpolation=interpolation
    )
    image = picture(width, height)
    assert torch.equal(prepare(image, config).float() / 255, transform(image))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "YCbCr", "HSV"])
def test_other_modes_become_rgb_as_pil_converts_them(mode: str) -> None:
    image = picture(20, 10, mode)
    assert to_rgb(image).tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white(mode: str) -> None:
    image = Image.new(mode, (4, 4), 0)
    assert np.array(decode(encoded(image))).min() == 255
    opaque = picture(6, 6).convert("RGBA")
    assert to_rgb(opaque).tobytes() == opaque.convert("RGB").tobytes()


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 1), 1)
    pixels = np.array(decode(encoded(image, transparency=0)))
    assert tuple(pixels[0, 0]) == (255, 255, 255)
    assert tuple(pixels[1, 1]) == (200, 100, 50)


def test_sixteen_bits_keep_their_range() -> None:
    image = Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16))
    pixels = np.array(decode(encoded(image)))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("values", [np.array([[0, 70000]], dtype=np.int32), np.array([[0.0, 1.0]], dtype=np.float32)])
def test_pixels_with_no_agreed_range_are_refused(values: np.ndarray) -> None:
    with pytest.raises(BadImage, match="range"):
        decode(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int) -> None:
    image = Image.new("RGB", (40, 20), (0, 0, 0))
    image.paste((255, 255, 255), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = decode(encoded(image, exif=exif))
    assert upright.size == ((40, 20) if orientation < 5 else (20, 40))
    corner = {1: (0, 0), 2: (-1, 0), 3: (-1, -1), 4: (0, -1), 5: (0, 0), 6: (-1, 0), 7: (-1, -1), 8: (0, -1)}[
        orientation
    ]
    place = (corner[0] % upright.width, corner[1] % upright.height)
    assert upright.getpixel(place) == (255, 255, 255)


def test_an_animation_is_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damaged_images_are_refused(kind: str) -> None:
    data = encoded(picture(64, 48), kind)
    assert decode(data).size == (64, 48)
    for keep in (0, 5, 20, len(data) // 2):
        with pytest.raises(BadImage):
            decode(data[:keep])
    with pytest.raises(BadImage):
        decode(b"hello")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]), st.data())
def test_flipped_bytes_give_pixels_or_a_bad_image(kind: str, data: Any) -> None:
    damaged = bytearray(encoded(picture(24, 16), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(damaged), max_pixels=100_000)
    except BadImage:
        return
    assert image.mode == "RGB"


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    data = encoded(Image.new("1", (10_000, 10_000)))
    with pytest.raises(BadImage, match="cap"):
        decode(data)
    with pytest.raises(BadImage, match="9000x9000"):
        decode(encoded(Image.new("1", (9_000, 9_000))))
    with pytest.raises(BadImage, match="cap"):
        decode(encoded(picture(11, 10)), max_pixels=100)


def test_the_smallest_image_has_pixels() -> None:
    assert prepare(picture(1, 1), PreprocessConfig()).shape == (3, 224, 224)
    tall = prepare(picture(1, 300), PreprocessConfig(input_size=(3, 32, 32), crop_mode="border"))
    assert tall.shape == (3, 32, 32)
