"""Small copies of images for the pages, made where images are decoded anyway: never in the API."""

import contextlib
import os
import time
from itertools import zip_longest
from pathlib import Path

from PIL import Image, ImageOps

from service.blobs.store import BlobStore
from service.core.ids import new_id
from service.datasets.images import FORMATS, quiet_pillow
from service.datasets.samples import samples, thumbnail_path

SIDE = 176  # pixels: twice what a page shows, for fine screens
EACH = 60  # of a class, as its own page shows
SECONDS = 1.0  # a large dataset is not held up by them; what has none is shown as it was uploaded
LEAST_BYTES = 12_000  # what is smaller than this is shown as it is


def make(root: Path, project: str, manifest: Path, blobs: BlobStore, /, *, seconds: float = SECONDS) -> int:
    """Of the first images of every class in turn, as many as there is time for. Returns how many were made."""
    until, made = time.monotonic() + seconds, 0
    with quiet_pillow():
        for of_classes in zip_longest(*(group.images for group in samples(manifest, each=EACH))):
            for sample in of_classes:
                if time.monotonic() > until:
                    return made
                made += sample is not None and _make_one(thumbnail_path(root, project, sample.hash), blobs, project)
    return made


def _make_one(target: Path, blobs: BlobStore, project: str) -> bool:
    source = blobs.path(project, target.stem)
    try:
        if target.exists():
            return False
        with Image.open(source, formats=FORMATS) as image:
            light = source.stat().st_size < LEAST_BYTES and image.format != "TIFF"  # which browsers do not show
            if light or image.mode.startswith("I"):
                return False
            image.draft("RGB", (SIDE, SIDE))
            image.thumbnail((SIDE, SIDE))
            small = ImageOps.exif_transpose(image).convert("RGB")  # as browsers turn the original
    except Exception:  # it was decoded before; a page shows the original where a copy cannot be made
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{new_id('tmp')}.part")
    try:
        small.save(temporary, "JPEG", quality=80, optimize=True)
        temporary.rename(target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return True


def collect(root: Path, project: str, needed: set[str], /, *, horizon: float) -> None:
    """Removes copies of what no dataset holds, and what was left half written, last touched before `horizon`."""
    for folder, _, names in os.walk(root / project):
        for path in (Path(folder, name) for name in names):
            if path.stem not in needed or path.suffix != ".jpg":
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime <= horizon:
                        path.unlink()
