"""The embedding store that the settings name."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from service.core.db import Database
from service.core.settings import Settings
from service.embeddings.files import Files, LocalFiles, RemoteFiles
from service.embeddings.store import SegmentStore


def open_store(settings: Settings, database: Database, /) -> SegmentStore:
    return SegmentStore(
        open_files(settings), database, storage=settings.store.storage, derived_root=settings.cache_root / "derived"
    )


def open_files(settings: Settings, /) -> Files:
    url = settings.store.url
    if url is None:
        return LocalFiles(settings.segment_root)
    if url.startswith("file:") or "://" not in url:
        return LocalFiles(Path(unquote(urlsplit(url).path) if url.startswith("file:") else url).absolute())
    return RemoteFiles(url, cache=settings.cache_root / "segments", cache_bytes=settings.store.cache_bytes)
