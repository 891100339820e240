"""One view of an archive, a folder or a file: names to walk and contents to stream. Nothing is unpacked to disk."""

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from service.datasets.errors import CorruptArchive, DuplicateName, NestedArchive
from service.datasets.limits import Meter
from service.datasets.names import ARCHIVE_SUFFIXES, is_litter, suffix

CHUNK_BYTES = 256 * 1024


class MemberDamagedError(Exception):
    """One member cannot be read; its neighbours can."""


class MemberTooLargeError(Exception):
    """One member is larger than the caller is willing to hold."""


@dataclass(frozen=True, slots=True)
class Entry:
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """An entry whose content can be read once, before the next member is asked for."""

    entry: Entry
    open: Callable[[], AbstractContextManager[BinaryIO]]
    file: Path | None = None  # where it lies on a disk as it is

    def chunks(self, *, max_bytes: int) -> Iterator[bytes]:
        """What is really there, whatever size was declared."""
        total = 0
        try:
            with self.open() as handle:
                while chunk := handle.read(CHUNK_BYTES):
                    total += len(chunk)
                    if total > max_bytes:
                        raise MemberTooLargeError(f"is larger than {max_bytes:,} bytes")
                    yield chunk
        except tarfile.TarError as error:
            raise CorruptArchive("The tar archive is cut short or damaged", where=self.entry.path) from error
        except OSError as error:
            if self.file is None:  # the archive's own disk fails: that is no fault of one member
                raise
            raise MemberDamagedError(f"cannot be opened ({error.strerror or 'input or output error'})") from error
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
            raise MemberDamagedError(
                "cannot be unpacked: its data do not match the archive's checksum or header"
            ) from error

    def read(self, *, max_bytes: int) -> bytes:
        if self.entry.size > max_bytes:
            raise MemberTooLargeError(f"is larger than {max_bytes:,} bytes")
        return b"".join(self.chunks(max_bytes=max_bytes))


class Source(Protocol):
    """Implementations refuse unsafe names, links and special files while walking."""

    @property
    def format(self) -> str: ...

    @property
    def size(self) -> int:
        """Bytes on disk, against which the ratio is measured."""

    def walk(self, meter: Meter, /) -> Iterator[Entry]:
        """Every ordinary file, litter included."""

    def stream(self, wanted: Callable[[str], bool], meter: Meter, /) -> Iterator[Member]:
        """The wanted files, in the order in which they are cheapest to read."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a source that are no litter."""

    paths: tuple[str, ...]
    litter: int
    complete: bool


def contents(source: Source, meter: Meter, /, *, max_walk_bytes: int | None = None) -> Contents:
    """Walk the whole source once. Past `max_walk_bytes` inflated bytes the walk stops and `complete` is False."""
    seen: set[str] = set()
    litter = 0
    complete = True
    meter.rewind()
    for entry in source.walk(meter):
        if is_litter(entry.path):
            litter += 1
        else:
            if entry.path in seen:
                raise DuplicateName("Two files have the same name", where=entry.path)
            if suffix(entry.path) in ARCHIVE_SUFFIXES:
                raise NestedArchive("It holds another archive", where=entry.path)
            seen.add(entry.path)
        if max_walk_bytes is not None and meter.inflated_bytes > max_walk_bytes:
            complete = False
            break
    return Contents(tuple(sorted(seen)), litter, complete)
