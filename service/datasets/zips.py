"""Zip archives: the directory is checked before anything is opened."""

import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from service.datasets.archives import Entry, Member
from service.datasets.errors import (
    BadName,
    CompressionBomb,
    CorruptArchive,
    EncryptedArchive,
    LinkInArchive,
    SpecialFile,
    TooManyEntries,
    UnknownFormat,
)
from service.datasets.limits import Limits, Meter
from service.datasets.names import checked_path, readable_name

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_MAX_COMMENT = 65_535
_ENCRYPTED = 0x1
_UTF8 = 0x800
# A directory entry is 46 bytes, its name and its extra fields; what is much larger hides something in comments.
_MAX_DIRECTORY_BYTES_AN_ENTRY = 2048
_MIN_DIRECTORY_BYTES = 1 << 20


class ZipSource:
    format = "zip"

    def __init__(self, path: Path, limits: Limits, /) -> None:
        self.size = path.stat().st_size
        with path.open("rb") as handle:
            _check_directory_size(handle, self.size, limits)
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, EOFError, struct.error) as error:
            raise CorruptArchive("The zip directory cannot be read: the archive is cut short or damaged") from error
        except OSError as error:
            if error.errno != 22:  # EINVAL: the directory points before the file's beginning
                raise
            raise CorruptArchive("The zip directory points outside the file") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._zip.close()

    def walk(self, meter: Meter, /) -> Iterator[Entry]:
        packed = 0
        for info in self._zip.infolist():
            entry = _checked(info)
            meter.entry(entry.path, entry.size)
            if not 0 <= info.header_offset < self.size:
                raise CorruptArchive("The zip directory points outside the file", where=entry.path)
            packed += info.compress_size
            if packed > self.size:
                raise CompressionBomb("Files of the archive overlap each other", where=entry.path)
            if not info.is_dir():
                yield entry

    def stream(self, wanted: Callable[[str], bool], meter: Meter, /) -> Iterator[Member]:
        for info in sorted(self._zip.infolist(), key=lambda info: info.header_offset):
            if info.is_dir():
                continue
            entry = _checked(info)
            if wanted(entry.path):
                yield Member(entry, partial(self._open, info, meter))

    def _open(self, info: zipfile.ZipInfo, meter: Meter, /) -> "_Metered":
        return _Metered(cast("BinaryIO", self._zip.open(info)), meter, info.filename)


class _Metered:
    """Counts what comes out of the inflater; declared sizes are not believed."""

    def __init__(self, handle: BinaryIO, meter: Meter, name: str, /) -> None:
        self._handle = handle
        self._meter = meter
        self._name = name

    def __enter__(self) -> BinaryIO:
        return cast("BinaryIO", self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._handle.close()

    def read(self, size: int, /) -> bytes:
        data = self._handle.read(size)
        self._meter.inflated(len(data), self._name)
        return data


def _check_directory_size(handle: BinaryIO, size: int, limits: Limits, /) -> None:
    """Before `zipfile` loads the directory whole: how many entries and bytes does its end record announce?"""
    reach = min(size, _END.size + _MAX_COMMENT)
    handle.seek(size - reach)
    tail = handle.read(reach)
    at = len(tail) - _END.size
    if at < 0 or tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or at + _END.size > len(tail):
        raise CorruptArchive("The zip archive has no directory at its end: it is cut short")
    end = _END.unpack_from(tail, at)
    entries, directory_bytes = end[4], end[5]
    locator_at = size - reach + at - _END64_LOCATOR.size
    if locator_at >= _END64.size:
        handle.seek(locator_at - _END64.size)
        record = handle.read(_END64.size + 4)
        if record[_END64.size :] == b"PK\6\7" and record[:4] == b"PK\6\6":
            entries, directory_bytes = _END64.unpack_from(record)[7:9]
    if entries > limits.max_entries:
        raise TooManyEntries(f"The archive announces {entries:,} files; the limit is {limits.max_entries:,}")
    most = max(_MIN_DIRECTORY_BYTES, limits.max_entries * _MAX_DIRECTORY_BYTES_AN_ENTRY)
    if directory_bytes > min(most, max(_MIN_DIRECTORY_BYTES, (entries + 1) * _MAX_DIRECTORY_BYTES_AN_ENTRY)):
        raise CorruptArchive(f"The zip directory takes {directory_bytes:,} bytes for {entries:,} files")


def _checked(info: zipfile.ZipInfo, /) -> Entry:
    raw = _name(info)
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise LinkInArchive("It holds a symbolic link", where=raw)
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise SpecialFile("It holds a device, pipe or socket", where=raw)
    if info.flag_bits & _ENCRYPTED:
        raise EncryptedArchive("A file of the archive is encrypted", where=raw)
    if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        # The inflaters of the other methods cannot be told to stop, so a small file could fill the memory.
        raise UnknownFormat(f"A file is compressed by zip method {info.compress_type}; use 'deflate'", where=raw)
    path = checked_path(raw)
    if not path and not info.is_dir():
        raise BadName("A file has no name")
    return Entry(path, 0 if info.is_dir() else info.file_size)


def _name(info: zipfile.ZipInfo, /) -> str:
    """macOS writes UTF-8 without setting the flag that says so; only what is no UTF-8 is read as code page 437."""
    raw = info.orig_filename
    if info.flag_bits & _UTF8 or raw.isascii():
        return readable_name(raw)
    try:
        return raw.encode("cp437").decode()
    except UnicodeError:
        return raw
