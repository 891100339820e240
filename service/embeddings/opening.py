"""The embedding store that the settings name."""

from service.core.db import Database
from service.core.settings import Settings
from service.embeddings.files import open_files
from service.embeddings.store import SegmentStore


def open_store(settings: Settings, database: Database, /) -> SegmentStore:
    return SegmentStore(
        open_files(settings), database, storage=settings.store.storage, derived_root=settings.cache_root / "derived"
    )
