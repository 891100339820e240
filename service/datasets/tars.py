"""Tar archives, plain or compressed, read from front to back without a list of members in memory."""

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal, Self, cast

from service.datasets.archives import CHUNK_BYTES, Entry, Member
from service.datasets.errors import BadName, CorruptArchive, LinkInArchive, SpecialFile
from service.datasets.limits import Meter
from service.datasets.names import checked_path, readable_name

Compression = Literal["", "gz", "bz2", "xz"]

_BLOCK = tarfile.BLOCKSIZE
# tarfile reads a long-name or pax header whole; no honest one is larger, and a forged one would fill the memory.
_MAX_READ_BYTES = 1 << 20
_XZ_MEMORY_BYTES = 256 << 20


class TarSource:
    def __init__(self, path: Path, compression: Compression, /) -> None:
        self.format = f"tar.{compression}" if compression else "tar"
        self.size = path.stat().st_size
        self._path = path
        self._compression = compression

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    def walk(self, meter: Meter, /) -> Iterator[Entry]:
        for entry, _, _ in self._members(meter):
            meter.entry(entry.path, entry.size)
            yield entry

    def stream(self, wanted: Callable[[str], bool], meter: Meter, /) -> Iterator[Member]:
        for entry, tar, info in self._members(meter):
            if wanted(entry.path):
                yield Member(entry, partial(_opened, tar, info))

    def _members(self, meter: Meter, /) -> Iterator[tuple[Entry, tarfile.TarFile, tarfile.TarInfo]]:
        with self._path.open("rb") as raw, _inflated(raw, self._compression) as plain:
            reader = _Forward(plain, meter, seekable=not self._compression)
            try:
                with tarfile.open(fileobj=cast("BinaryIO", reader), mode="r:") as tar:
                    while (info := tar.next()) is not None:
                        tar.members.clear()  # type: ignore[attr-defined]  # or it keeps them all
                        entry = _checked(info)
                        if not info.isdir():
                            yield entry, tar, info
            except (tarfile.TarError, ValueError, IndexError, OverflowError) as error:
                raise CorruptArchive("The tar archive is cut short or damaged") from error
            # tarfile takes a header it cannot read for the end; an honest end is a block of zeros.
            if reader.last != b"\0" * _BLOCK:
                raise CorruptArchive("The tar archive has no end mark: it is cut short or damaged")


def starts_a_tar(path: Path, compression: Compression, /) -> bool:
    """True for an empty archive too, which begins with its end mark."""
    try:
        with path.open("rb") as raw, _inflated(raw, compression) as plain:
            first = plain.read(_BLOCK)
    except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise CorruptArchive("The compressed stream is cut short or damaged") from error
    if first == b"\0" * _BLOCK:
        return True
    try:
        tarfile.TarInfo.frombuf(first, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


@contextmanager
def _inflated(raw: BinaryIO, compression: Compression, /) -> Iterator[BinaryIO]:
    """The decompressed stream; the caller keeps `raw`."""
    match compression:
        case "":
            yield raw
        case "gz":
            with gzip.GzipFile(fileobj=raw, mode="rb") as plain:
                yield cast("BinaryIO", plain)
        case "bz2":
            with bz2.BZ2File(raw) as plain_bz2:
                yield cast("BinaryIO", plain_bz2)
        case "xz":
            yield cast("BinaryIO", io.BufferedReader(_Xz(raw), CHUNK_BYTES))


class _Xz(io.RawIOBase):
    """lzma.LZMAFile takes no memory limit, and an xz header may ask for gigabytes."""

    def __init__(self, raw: BinaryIO, /) -> None:
        self._raw = raw
        self._inflater = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        while not self._inflater.eof:
            packed = self._raw.read(CHUNK_BYTES) if self._inflater.needs_input else b""
            if self._inflater.needs_input and not packed:
                raise EOFError("The xz stream is cut short.")
            data = self._inflater.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
        return 0


class _Forward:
    """What tarfile needs of a file, forwards only, metered, and remembering the last block it gave."""

    def __init__(self, plain: BinaryIO, meter: Meter, /, *, seekable: bool) -> None:
        self._plain = plain
        self._meter = meter
        self._seekable = seekable
        self._position = 0
        self.last = b""

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, /) -> int:
        if self._seekable:
            self._plain.seek(position)
            self._position = position
            return position
        if position < self._position:
            raise CorruptArchive("The tar archive points backwards")
        while self._position < position:
            if not self._take(min(CHUNK_BYTES, position - self._position)):
                raise CorruptArchive("The tar archive is cut short")
        return position

    def read(self, size: int, /) -> bytes:
        if size > _MAX_READ_BYTES:
            raise CorruptArchive(f"A tar header claims {size:,} bytes")
        data = self._take(size)
        self.last = data[:_BLOCK]
        return data

    def _take(self, size: int, /) -> bytes:
        try:
            data = self._plain.read(size)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise CorruptArchive("The compressed stream is cut short or damaged") from error
        self._position += len(data)
        self._meter.inflated(len(data))
        return data


def _opened(tar: tarfile.TarFile, info: tarfile.TarInfo, /) -> AbstractContextManager[BinaryIO]:
    handle = tar.extractfile(info)
    if handle is None:
        raise CorruptArchive("A tar entry has no content", where=info.name)
    return cast("AbstractContextManager[BinaryIO]", handle)


def _checked(info: tarfile.TarInfo, /) -> Entry:
    raw = readable_name(info.name)
    if info.issym() or info.islnk():
        raise LinkInArchive("It holds a symbolic or hard link", where=raw)
    if info.issparse():
        raise SpecialFile("It holds a sparse file", where=raw)
    if not (info.isreg() or info.isdir()):
        raise SpecialFile("It holds a device, a pipe or an entry of unknown type", where=raw)
    path = checked_path(raw)
    if not path and not info.isdir():
        raise BadName("A file has no name")
    if info.size < 0:
        raise CorruptArchive("A tar entry claims a negative size", where=raw)
    return Entry(path, info.size)
