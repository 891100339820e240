"""Where segments' files lie: a local folder that is mapped into memory, or any fsspec URL read through a cache.

Names are relative (`project/ab/extractor/segment.kind.suffix`) and never written twice.
"""

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from service.core.settings import Settings
from service.embeddings.errors import SegmentDamaged, StoreUnreachable

CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Digest:
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Listed:
    name: str
    size: int
    modified: float  # seconds since 1970


class Files(Protocol):
    def scratch(self, name: str, /) -> Path:
        """A local path to write a new file to, before `publish`."""

    def publish(self, name: str, written: Path, /) -> None:
        """Makes a finished file readable under its name, in full or not at all."""

    def local(self, name: str, sha256: str, /) -> Path:
        """A local copy to read.

        Raises:
            FileNotFoundError: There is no such file.
            SegmentDamaged: What was fetched is not what was registered.
        """

    def digest(self, name: str, /) -> Digest | None:
        """Of the file itself, not of a cached copy; None where there is none."""

    def listed(self, project: str, /) -> list[Listed]:
        """Every file of a project, unfinished ones included."""

    def delete(self, name: str, /) -> None:
        """Removes it, and any copy of it here; says nothing where there is none."""


class LocalFiles:
    """Files under a folder of this machine, or one that it mounts."""

    def __init__(self, root: Path, /) -> None:
        self.root = root

    def scratch(self, name: str, /) -> Path:
        path = self.root / f"{name}.tmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, name: str, written: Path, /) -> None:
        sync(written)
        written.rename(self.root / name)
        sync(written.parent)

    def local(self, name: str, _sha256: str, /) -> Path:
        return self.root / name

    def digest(self, name: str, /) -> Digest | None:
        try:
            return digest_of(self.root / name)
        except FileNotFoundError:
            return None

    def listed(self, project: str, /) -> list[Listed]:
        return list(_files_under(self.root, self.root / project))

    def delete(self, name: str, /) -> None:
        (self.root / name).unlink(missing_ok=True)


class RemoteFiles:
    """Files at an fsspec URL (`s3://bucket/prefix`), each read through a copy in a local folder of bounded size.

    Credentials and endpoint are the file system's own affair: for S3 the usual AWS environment and files.
    """

    def __init__(self, url: str, /, *, cache: Path, cache_bytes: int) -> None:
        self._url = url
        self._cache = cache
        self._cache_bytes = cache_bytes
        with _reaching(url):
            from fsspec.core import url_to_fs

            self._fs: Any
            self._fs, root = url_to_fs(url, use_listings_cache=False)
        self._root = root.rstrip("/")

    def scratch(self, name: str, /) -> Path:
        path = self._cache / f"{name}.{uuid.uuid4().hex}.tmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, name: str, written: Path, /) -> None:
        with _reaching(self._url):
            self._fs.makedirs(self._fs._parent(self._at(name)), exist_ok=True)
            self._fs.put_file(str(written), self._at(name))
        written.rename(self._cache / name)
        self._evict(keep=name)

    def local(self, name: str, sha256: str, /) -> Path:
        path = self._cache / name
        with suppress(FileNotFoundError):
            os.utime(path)  # the copy that was used longest ago goes first
            return path
        arriving = self.scratch(name)
        try:
            with _reaching(self._url):
                self._fs.get_file(self._at(name), str(arriving))
            if digest_of(arriving).sha256 != sha256:
                raise SegmentDamaged(f"{PurePosixPath(name).name} at {self._url} is not the file that was registered.")
            arriving.rename(path)
        finally:
            arriving.unlink(missing_ok=True)
        self._evict(keep=name)
        return path

    def digest(self, name: str, /) -> Digest | None:
        found, size = hashlib.sha256(), 0
        try:
            with _reaching(self._url), self._fs.open(self._at(name), "rb", cache_type="readahead") as file:
                while chunk := file.read(CHUNK_BYTES):
                    found.update(chunk)
                    size += len(chunk)
        except FileNotFoundError:
            return None
        self._forget_unlike(name, found.hexdigest())
        return Digest(size, found.hexdigest())

    def listed(self, project: str, /) -> list[Listed]:
        with _reaching(self._url):
            found = self._fs.find(self._at(project), detail=True)
        return [Listed(path[len(self._root) + 1 :], int(info["size"]), _modified(info)) for path, info in found.items()]

    def delete(self, name: str, /) -> None:
        (self._cache / name).unlink(missing_ok=True)
        with _reaching(self._url), suppress(FileNotFoundError):
            self._fs.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _forget_unlike(self, name: str, sha256: str) -> None:
        with suppress(FileNotFoundError):
            if digest_of(self._cache / name).sha256 != sha256:
                (self._cache / name).unlink(missing_ok=True)

    def _evict(self, *, keep: str) -> None:
        """A copy that is open elsewhere stays readable there after it was removed."""
        held = sorted(_files_under(self._cache, self._cache), key=lambda file: file.modified)
        excess = sum(file.size for file in held) - self._cache_bytes
        for file in held:
            if excess <= 0:
                break
            if file.name != keep and not file.name.endswith(".tmp"):
                (self._cache / file.name).unlink(missing_ok=True)
                excess -= file.size


def open_files(settings: Settings, /) -> Files:
    """Those that the settings name."""
    url = settings.store.url
    if url is None:
        return LocalFiles(settings.segment_root)
    if url.startswith("file:") or "://" not in url:
        return LocalFiles(Path(unquote(urlsplit(url).path) if url.startswith("file:") else url).absolute())
    return RemoteFiles(url, cache=settings.cache_root / "segments", cache_bytes=settings.store.cache_bytes)


def digest_of(path: Path, /) -> Digest:
    with path.open("rb") as file:
        return Digest(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


def sync(path: Path, /) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files_under(root: Path, folder: Path) -> Iterator[Listed]:
    """Files come and go meanwhile."""
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file():
                status = path.stat()
                yield Listed(path.relative_to(root).as_posix(), status.st_size, status.st_mtime)


def _modified(info: dict[str, Any]) -> float:
    """File systems name it differently; where one does not say, a file counts as fresh and is left alone."""
    for name in ("LastModified", "mtime", "last_modified", "updated", "modified", "created"):
        value = info.get(name)
        if value is not None:
            return float(value.timestamp() if hasattr(value, "timestamp") else value)
    return time.time()


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # every file system raises its own library's errors
        raise StoreUnreachable(f"The store at {url} cannot be used: {type(error).__name__}: {error}") from error
