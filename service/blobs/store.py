"""Content-addressed files on a local disk: `<root>/<project>/<first two hex digits>/<sha256>`.

A blob is written to a temporary name, fsynced and renamed, so a name never holds half a file. Nothing is rewritten in
place. The project is part of every path: what one project stores is neither visible nor timed by another.
"""

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = "_tmp"
_CHUNK_BYTES = 1 << 20
_SYNC_THREADS = 16


@dataclass(frozen=True, slots=True)
class Blob:
    sha256: str
    size: int


class BlobStore:
    """Every method is safe to call from several threads and processes at once."""

    __slots__ = ("root",)

    def __init__(self, root: Path, /) -> None:
        self.root = root

    def put_stream(self, project: str, chunks: Iterable[bytes], /) -> Blob:
        """Store what `chunks` yields. If the iteration raises, nothing remains of it."""
        temporary = self._temporary(project)
        digest, size = hashlib.sha256(), 0
        try:
            with temporary.open("xb") as handle:
                for chunk in chunks:
                    digest.update(chunk)
                    handle.write(chunk)
                    size += len(chunk)
                _flush_to_disk(handle)
            blob = Blob(digest.hexdigest(), size)
            self._adopt(project, temporary, blob)
            _sync_directory(self.path(project, blob.sha256).parent)
        finally:
            temporary.unlink(missing_ok=True)
        return blob

    def put_file(self, project: str, source: Path, /) -> Blob:
        with source.open("rb") as handle:
            return self.put_stream(project, iter(lambda: handle.read(_CHUNK_BYTES), b""))

    def path(self, project: str, sha256: str, /) -> Path:
        """Where the blob lies or would lie; nothing is said about whether it exists."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError("A blob is named by 64 lower-case hexadecimal digits.")
        return self._project_root(project) / sha256[:2] / sha256

    def exists(self, project: str, sha256: str, /) -> bool:
        return self.path(project, sha256).is_file()

    def open(self, project: str, sha256: str, /) -> BinaryIO:
        """Raises FileNotFoundError where the project holds no such blob."""
        return self.path(project, sha256).open("rb")

    def delete(self, project: str, sha256: str, /) -> bool:
        """Remove one blob; False where there was none."""
        try:
            self.path(project, sha256).unlink()
        except FileNotFoundError:
            return False
        return True

    def iter_hashes(self, project: str, /) -> Iterator[str]:
        """Every blob of the project, in no particular order. What is still being written is not listed."""
        for directory in _listed(self._project_root(project)):
            if len(directory.name) == 2:
                yield from (entry.name for entry in _listed(directory) if _SHA256.fullmatch(entry.name))

    def collect(self, project: str, keep: set[str], /, *, older_than_seconds: float) -> int:
        """Remove blobs outside `keep`, and abandoned temporary files, last touched before the grace period began.

        Storing a blob that is already there renews its time, so a writer that has seen it keeps it for a grace period.
        """
        horizon = time.time() - older_than_seconds
        removed = 0
        for sha256 in self.iter_hashes(project):
            if sha256 not in keep and _touched(self.path(project, sha256)) < horizon:
                removed += self.delete(project, sha256)
        for leftover in _listed(self._project_root(project) / _TEMPORARY):
            if _touched(leftover) < horizon:
                _remove(leftover)
        return removed

    def staging(self, project: str, /) -> "Staging":
        """Blobs that become visible all together, or not at all."""
        return Staging(self, project, self._temporary(project))

    def _project_root(self, project: str, /) -> Path:
        if not _PROJECT.fullmatch(project):
            raise ValueError("A project's key is 1 to 64 letters, digits, '_' or '-', and begins with no sign.")
        return self.root / project

    def _temporary(self, project: str, /) -> Path:
        directory = self._project_root(project) / _TEMPORARY
        directory.mkdir(parents=True, exist_ok=True)
        return directory / uuid.uuid4().hex

    def _renew(self, project: str, blob: Blob, /) -> bool:
        """True where the blob is there in full; its grace period then begins anew."""
        final = self.path(project, blob.sha256)
        try:
            os.utime(final)
            return final.stat().st_size == blob.size
        except FileNotFoundError:
            return False

    def _adopt(self, project: str, temporary: Path, blob: Blob, /) -> None:
        if self._renew(project, blob):
            return
        final = self.path(project, blob.sha256)
        final.parent.mkdir(exist_ok=True)
        temporary.replace(final)


class Staging:
    """A context manager. What was put is discarded on leaving, unless `publish` was called.

    Another writer can therefore never lose a blob because this one gave up: nothing unpublished is ever shared.
    """

    __slots__ = ("_directory", "_project", "_staged", "_store")

    def __init__(self, store: BlobStore, project: str, directory: Path, /) -> None:
        self._store = store
        self._project = project
        self._directory = directory
        self._staged: dict[str, Blob] = {}

    @property
    def directory(self) -> Path:
        """Scratch space on the store's disk, removed on leaving."""
        return self._directory

    def __enter__(self) -> Self:
        self._directory.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        _remove(self._directory)

    def put(self, data: bytes, /) -> Blob:
        """Stage one blob; several threads may call it."""
        blob = Blob(hashlib.sha256(data).hexdigest(), len(data))
        if blob.sha256 in self._staged or self._store._renew(self._project, blob):
            return blob
        temporary = self._directory / uuid.uuid4().hex
        with temporary.open("xb") as handle:
            handle.write(data)
            _flush_to_disk(handle)
        temporary.replace(self._directory / blob.sha256)
        self._staged[blob.sha256] = blob
        return blob

    def publish(self, keep: set[str] | None = None, /) -> None:
        """Make the staged blobs visible: all of them, or those in `keep`. Calling it twice changes nothing."""
        filled = set()
        for sha256, blob in list(self._staged.items()):
            if keep is None or sha256 in keep:
                self._store._adopt(self._project, self._directory / sha256, blob)
                filled.add(self._store.path(self._project, sha256).parent)
            del self._staged[sha256]
        with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync") as pool:
            list(pool.map(_sync_directory, filled))  # one after another, 256 of them take seconds


def _flush_to_disk(handle: BinaryIO, /) -> None:
    handle.flush()
    os.fsync(handle.fileno())


def _sync_directory(directory: Path, /) -> None:
    """A rename outlives a power cut only when the directory was written too: a row must never name a lost file."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _listed(directory: Path, /) -> list[Path]:
    try:
        return list(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _touched(path: Path, /) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _remove(path: Path, /) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
