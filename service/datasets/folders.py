"""A folder, or a single file, read in place."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

from service.datasets.archives import Entry, Member
from service.datasets.errors import LinkInArchive, SpecialFile
from service.datasets.limits import Meter
from service.datasets.names import checked_path, is_litter, readable_name


class FolderSource:
    format = "folder"

    def __init__(self, root: Path, /) -> None:
        self._root = root
        self._files: dict[str, tuple[Path, int]] = {}
        # A folder is not compressed: measured against itself no ratio is ever passed.
        self.size = 1 << 62

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    def walk(self, meter: Meter, /) -> Iterator[Entry]:
        """Hidden folders are not entered, so what links to outside from there does no harm."""
        self._files.clear()
        pending = [(self._root, "")]
        while pending:
            folder, prefix = pending.pop()
            with os.scandir(folder) as found:
                children = sorted(found, key=lambda child: child.name)
            for child in children:
                path = checked_path(prefix + readable_name(child.name))
                if is_litter(path):
                    continue
                status = child.stat(follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    raise LinkInArchive("The folder holds a symbolic link", where=path)
                if stat.S_ISDIR(status.st_mode):
                    pending.append((Path(child.path), f"{path}/"))
                elif stat.S_ISREG(status.st_mode):
                    meter.entry(path, status.st_size)
                    self._files[path] = Path(child.path), status.st_size
                    yield Entry(path, status.st_size)
                else:
                    raise SpecialFile("The folder holds a device, pipe or socket", where=path)

    def stream(self, wanted: Callable[[str], bool], meter: Meter, /) -> Iterator[Member]:
        for path, (file, size) in self._files.items():
            if wanted(path):
                yield Member(Entry(path, size), partial(_opened, file), file)


class FileSource:
    """One file that is a dataset by itself: a Parquet shard."""

    def __init__(self, path: Path, kind: str, /) -> None:
        self.format = kind
        self.size = path.stat().st_size
        self._path = path
        # An upload may be kept under any name, without a suffix or hidden.
        stem = readable_name(path.name).lstrip(".").removesuffix(f".{kind}")
        self._entry = Entry(checked_path(f"{stem or kind}.{kind}"), self.size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        pass

    def walk(self, meter: Meter, /) -> Iterator[Entry]:
        meter.entry(self._entry.path, self._entry.size)
        yield self._entry

    def stream(self, wanted: Callable[[str], bool], meter: Meter, /) -> Iterator[Member]:
        if wanted(self._entry.path):
            yield Member(self._entry, partial(_opened, self._path), self._path)


def _opened(path: Path, /) -> AbstractContextManager[BinaryIO]:
    return cast("AbstractContextManager[BinaryIO]", path.open("rb"))
