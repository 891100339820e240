"""What a file's name inside an archive says: is it safe, is it litter, is it an image, which split does it name."""

import re
import unicodedata
from typing import Literal

from service.datasets.errors import BadName, PathTraversal

Split = Literal["train", "validation", "test"]

MAX_PATH_CHARACTERS = 1024
IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff"})
# Images that are not read. They are named in the report, so that nobody wonders where they went.
UNREAD_IMAGE_SUFFIXES = frozenset(
    {"heic", "heif", "avif", "svg", "jp2", "j2k", "jxl", "psd", "ico", "tga", "ppm", "pgm", "pbm", "eps"}
    | {"dng", "cr2", "cr3", "nef", "arw", "orf", "rw2", "exr", "hdr", "dcm"}
)
ARCHIVE_SUFFIXES = frozenset(
    {"zip", "zipx", "tar", "gz", "tgz", "bz2", "tbz2", "tbz", "xz", "txz", "7z", "rar", "zst", "tzst", "lz4", "lzma"}
    | {"z", "cab", "jar", "iso"}
)
_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_LITTER = frozenset(
    {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db", "$recycle.bin", "system volume information"}
)
_SHARD = re.compile(r"(?P<split>[a-z]+)(?:[-_.].*)?")
_VERSION = re.compile(r"(.*) v(\d{1,6})", re.DOTALL)
MAX_BASE_CHARACTERS = 180
_DRIVE = re.compile(r"[A-Za-z]:")


def checked_path(raw: str, /) -> str:
    """The name in Unicode NFC without '.' and empty parts; '' for the root. Refuses what leads outside."""
    if not raw.isprintable() and any(unicodedata.category(c) == "Cc" for c in raw):
        raise BadName("A file's name holds a control character", where=raw)
    if "\\" in raw:
        raise PathTraversal("A file's name holds a backslash", where=raw)
    if raw.startswith("/") or _DRIVE.match(raw):
        raise PathTraversal("A file's name is absolute", where=raw)
    parts = [part for part in raw.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise PathTraversal("A file's name leads out of the archive", where=raw)
    path = unicodedata.normalize("NFC", "/".join(parts))
    if len(path) > MAX_PATH_CHARACTERS:
        raise BadName(f"A file's name is {len(path):,} characters long", where=path)
    return path


def readable_name(raw: str, /) -> str:
    """Undo surrogate escapes: bytes that are no UTF-8 are read as Latin-1, which every byte string is."""
    try:
        raw.encode()
    except UnicodeEncodeError:
        return raw.encode("utf-8", "surrogateescape").decode("latin-1")
    return raw


def is_litter(path: str, /) -> bool:
    """Hidden files, and what macOS and Windows leave behind."""
    return path.startswith(".") or "/." in path or not _LITTER.isdisjoint(path.lower().split("/"))


def suffix(path: str, /) -> str:
    stem, dot, last = path.rpartition("/")[2].rpartition(".")
    return last.lower() if dot and stem else ""


def split_named(name: str, /) -> Split | None:
    return _SPLITS.get(name.strip().lower())


def split_of_shard(path: str, /) -> Split | None:
    """The split that 'train-00000-of-00005.parquet', 'test.csv' or 'val/anything.parquet' names, if any."""
    *folders, name = path.split("/")
    match = _SHARD.fullmatch(name.rpartition(".")[0].lower())
    named = split_named(match["split"]) if match else None
    for folder in reversed(folders):
        named = named or split_named(folder)
    return named


def next_version_name(parent: str, /) -> str:
    """'flowers', 'flowers v2', 'flowers v3' …"""
    match = _VERSION.fullmatch(parent)
    base, number = (match[1], int(match[2])) if match else (parent, 1)
    return f"{base[:MAX_BASE_CHARACTERS]} v{number + 1}"
