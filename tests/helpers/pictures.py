"""Small labelled images whose classes differ in colour and pattern, so that any features tell them apart somewhat."""

import io
import tarfile
import zipfile

import numpy as np
from PIL import Image

SIDE = 40
CLASSES = ("ash", "birch", "cedar")


def picture(label: int, seed: int, /, *, noise: float = 40.0, marker: bytes = b"") -> bytes:
    """A PNG of stripes in the class's colour and direction; `marker` is appended as trailing bytes."""
    rng = np.random.default_rng([label, seed])
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    phase = rng.uniform(0, 6.28)
    wave = np.sin((rows if label % 2 else columns) * (0.3 + 0.25 * label) + phase)
    colour = np.array([(200, 60, 60), (60, 180, 60), (60, 60, 200)][label % 3], dtype=float)
    pixels = colour + 45 * wave[..., None] + rng.normal(0, noise, (SIDE, SIDE, 3))
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue() + marker


def class_folders(
    *, each: int = 8, classes: tuple[str, ...] = CLASSES, prefix: str = "", seed: int = 0, marker: bytes = b""
) -> dict[str, bytes]:
    return {
        f"{prefix}{name}/{i}.png": picture(label, seed * 1000 + i, marker=marker)
        for label, name in enumerate(classes)
        for i in range(each)
    }


def zipped(files: dict[str, bytes], /) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def tarred(files: dict[str, bytes], /) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()
