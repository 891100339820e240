"""Small copies of images: made of those that a page shows first, gone with their images."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.blobs.store import BlobStore
from service.datasets import thumbnails
from service.datasets.ingest import ingest
from service.datasets.manifest import write_manifest
from service.datasets.samples import samples, thumbnail_path
from tests.data.archives import zip_bytes


def noise(seed: int, size: tuple[int, int], kind: str, **options: object) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Path, BlobStore]:
    turned = Image.Exif()
    turned[0x0112] = 6
    files = {
        "cat/large.png": noise(0, (400, 200), "PNG"),
        "cat/turned.jpg": noise(1, (400, 200), "JPEG", exif=turned),
        "dog/light.png": noise(2, (20, 20), "PNG"),
        "dog/scan.tiff": noise(3, (30, 20), "TIFF"),
    }
    archive, manifest = tmp_path / "pets.zip", tmp_path / "pets.parquet"
    archive.write_bytes(zip_bytes(files))
    blobs = BlobStore(tmp_path / "blobs")
    write_manifest(ingest(archive, store=blobs, project="p").manifest, manifest)
    return manifest, blobs


def test_what_is_heavy_or_no_browser_shows_has_a_small_copy(sealed: tuple[Path, BlobStore], tmp_path: Path) -> None:
    manifest, blobs = sealed
    root = tmp_path / "thumbnails"
    assert thumbnails.make(root, "p", manifest, blobs) == 3
    assert thumbnails.make(root, "p", manifest, blobs) == 0
    hashes = {sample.path: sample.hash for group in samples(manifest, each=9) for sample in group.images}
    sizes = {}
    for path, value in hashes.items():
        copy = thumbnail_path(root, "p", value)
        if copy.exists():
            with Image.open(copy) as image:
                sizes[path] = image.format, image.size
                assert copy.stat().st_size < blobs.path("p", value).stat().st_size or path.endswith("tiff")
    assert sizes == {
        "cat/large.png": ("JPEG", (176, 88)),
        "cat/turned.jpg": ("JPEG", (88, 176)),
        "dog/scan.tiff": ("JPEG", (30, 20)),
    }
    kept = hashes["cat/large.png"]
    thumbnails.collect(root, "p", {kept}, horizon=float("inf"))
    assert [path.stem for path in root.rglob("*.jpg")] == [kept]


def test_no_dataset_is_held_up_by_them(sealed: tuple[Path, BlobStore], tmp_path: Path) -> None:
    manifest, blobs = sealed
    assert thumbnails.make(tmp_path / "thumbnails", "p", manifest, blobs, seconds=-1.0) == 0
