"""What is taken in can be embedded: an image that no model can be shown is skipped, and the ranking goes on."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service
from tests.helpers.zoo import TinyZoo


def encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=form)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "pixels", "words"),
    [
        ("float.tif", np.linspace(0, 1, 1024, dtype=np.float32).reshape(32, 32), "floating-point"),
        ("deep.tif", np.full((32, 32), 70_000, dtype=np.int32), "beyond 16 bits"),
    ],
)
def test_pixels_without_an_agreed_range_are_skipped_by_name(
    service: Service, tiny_zoo: TinyZoo, name: str, pixels: np.ndarray, words: str
) -> None:
    files = dict(class_folders())
    folder = next(iter(files)).rpartition("/")[0]
    files[f"{folder}/{name}"] = encoded(Image.fromarray(pixels), "TIFF")
    dataset = service.sealed(zipped(files))
    assert dataset["n_images"] == len(files) - 1
    assert words in str(dataset["report"])
    assert name in str(dataset["report"])
    service.add_models(tiny_zoo.good[:1])
    assert service.ranked(dataset["id"], tiny_zoo.names[:1])["state"] == "done"


def test_sixteen_bits_are_ranked(service: Service, tiny_zoo: TinyZoo) -> None:
    files = dict(class_folders())
    folder = next(iter(files)).rpartition("/")[0]
    files[f"{folder}/deep.png"] = encoded(Image.fromarray(np.full((32, 32), 60_000, dtype=np.uint16)), "PNG")
    dataset = service.sealed(zipped(files))
    assert dataset["n_images"] == len(files)
    service.add_models(tiny_zoo.good[:1])
    assert service.ranked(dataset["id"], tiny_zoo.names[:1])["state"] == "done"
