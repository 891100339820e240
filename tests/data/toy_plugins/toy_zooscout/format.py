"""A dataset format: says which files there are, and hands out their bytes. Layout, limits and checks are zooscout's."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from service.datasets.archives import Entry, Member
from service.datasets.errors import CorruptArchive
from service.datasets.limits import Limits, Meter
from service.datasets.names import checked_path


class Toyset:
    format = "toyset"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size

    def __enter__(self) -> "Toyset":
        return self

    def __exit__(self, *_error: Any) -> None: ...

    def walk(self, meter: Meter, /) -> Iterator[Entry]:
        for entry, _data in self._files():
            meter.entry(entry.path, entry.size)
            yield entry

    def stream(self, wanted: Callable[[str], bool], meter: Meter, /) -> Iterator[Member]:
        for entry, data in self._files():
            if wanted(entry.path):
                meter.inflated(len(data), entry.path)
                yield Member(entry, lambda data=data: io.BytesIO(data))

    def _files(self) -> Iterator[tuple[Entry, bytes]]:
        with self.path.open("rb") as file:
            file.readline()
            while head := file.readline():
                about = json.loads(head)
                data = file.read(about["size"])
                if len(data) != about["size"]:
                    raise CorruptArchive("It ends within an image", where=about["path"])
                yield Entry(checked_path(about["path"]), len(data)), data


def open_toyset(path: Path, limits: Limits, /) -> Toyset:
    return Toyset(path)
