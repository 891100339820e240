"""Cards from registries, and the proof that a model's weights fit its architecture."""

from importlib import import_module
from pathlib import Path
from typing import Any

from service.core.db import Database
from service.models import service as catalog
from zoo.catalog import SOURCES, ModelCard
from zoo.loading import load_any

ROWS_PER_TRANSACTION = 500


def import_registry(database: Database, project_id: str, /, *, source: str, name_glob: str) -> dict[str, Any]:
    """Cards of every matching entry of an installed registry; nothing is downloaded, no weights are built."""
    module, _, function = SOURCES[source].entrypoint.partition(":")
    cards: list[ModelCard] = list(getattr(import_module(module), function)(name_glob))
    added = refreshed = 0
    for start in range(0, len(cards), ROWS_PER_TRANSACTION):
        with database.write() as session:
            new, changed = catalog.upsert_cards(session, project_id, cards[start : start + ROWS_PER_TRANSACTION])
        added, refreshed = added + new, refreshed + changed
    return {"source": source, "matched": len(cards), "added": added, "refreshed": refreshed}


def prove(card: ModelCard, /, *, cache_dir: Path) -> tuple[ModelCard, int]:
    """The card with its weights pinned and its width known, and the number of parameters.

    Raises:
        ZooError: The weights cannot be had, are not the pinned ones, or do not fit; it names the first keys.
    """
    extractor = load_any(card, device="cpu", cache_dir=cache_dir)
    return extractor.card, extractor.params
