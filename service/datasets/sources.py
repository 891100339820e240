"""Which kind of dataset a path is, by its first bytes and never by its name."""

import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from service.datasets.archives import Source
from service.datasets.errors import EmptyArchive, TooLarge, UnknownFormat
from service.datasets.folders import FileSource, FolderSource
from service.datasets.limits import Limits
from service.datasets.tars import Compression, TarSource, starts_a_tar
from service.datasets.zips import ZipSource

_COMPRESSED: tuple[tuple[bytes, Compression], ...] = ((b"\x1f\x8b", "gz"), (b"BZh", "bz2"), (b"\xfd7zXZ\0", "xz"))
_NAMED: tuple[tuple[bytes, str], ...] = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"PK\x07\x08", "a zip archive in several parts"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a single image"),
    (b"\xff\xd8\xff", "a single image"),
    (b"%PDF", "a PDF file"),
    (b"<", "a web page or XML text"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatSpec:
    """A kind of file that another package reads. `entrypoint` opens one: it is given the path and the limits."""

    name: str
    magic: tuple[bytes, ...]  # how such a file begins; what begins as one of ours is ours
    entrypoint: str  # "package.module:function"
    description: str


FORMATS: dict[str, FormatSpec] = {}
"""Those of installed packages (`zooscout.formats`), appended by a process's entry point."""


def open_source(path: Path, limits: Limits, /) -> AbstractContextManager[Source]:
    """Raises FileNotFoundError where there is nothing, and a refusal where it is no kind of dataset."""
    if path.is_dir():
        return FolderSource(path)
    size = path.stat().st_size
    if size == 0:
        raise EmptyArchive("The file has no bytes")
    if size > limits.max_upload_bytes:
        raise TooLarge(f"The file has {size:,} bytes; the limit is {limits.max_upload_bytes:,}")
    with path.open("rb") as handle:
        return _by_first_bytes(path, handle, limits)


def _by_first_bytes(path: Path, handle: BinaryIO, limits: Limits, /) -> AbstractContextManager[Source]:
    first = handle.read(tarfile.BLOCKSIZE)
    if first.startswith((b"PK\3\4", b"PK\5\6")):
        return ZipSource(path, limits)
    if first.startswith(b"PAR1"):
        return FileSource(path, "parquet")
    for magic, compression in _COMPRESSED:
        if first.startswith(magic):
            if not starts_a_tar(path, compression):
                raise UnknownFormat(f"The file is compressed by {compression} and holds no tar archive")
            return TarSource(path, compression)
    if starts_a_tar(path, ""):
        return TarSource(path, "")
    for spec in FORMATS.values():
        if first.startswith(spec.magic):
            module, _, function = spec.entrypoint.partition(":")
            opener: Callable[[Path, Limits], AbstractContextManager[Source]]
            opener = getattr(import_module(module), function)
            return opener(path, limits)
    for magic, name in _NAMED:
        if first.lstrip().startswith(magic):
            raise UnknownFormat(f"The file is {name}")
    raise UnknownFormat("The file is no archive that is known here")
