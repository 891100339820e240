"""In which precision a model computes in a project, and so under which id its embeddings lie.

Decided once, when the model first embeds something in the project: features of two precisions never meet.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.embeddings import repository
from service.embeddings.model import StoreKey
from service.embeddings.tables import PrecisionRow
from service.keys.repository import lock_project
from zoo.catalog import ModelCard, Precision, extractor_id


@dataclass(frozen=True, slots=True)
class Decision:
    precision: Precision
    parity: Mapping[str, Any]  # what the probe found, or why there was none
    device: str


def extractor_ids(session: Session, project_id: str, pinned: Sequence[tuple[ModelCard, str]], /) -> list[str]:
    """The id under which each (card, sha256 of its weights) embeds in the project."""
    exact = [extractor_id(card, weights_sha256=sha256) for card, sha256 in pinned]
    decided = repository.precisions(session, project_id, exact)
    return [
        ident
        if decided.get(ident, "float32") == "float32"
        else extractor_id(card, weights_sha256=sha256, precision=decided[ident])
        for ident, (card, sha256) in zip(exact, pinned, strict=True)
    ]


def written_extractor_ids(session: Session, project_id: str, pinned: Sequence[tuple[str, str]], /) -> list[str]:
    """The same of cards as they are written: what one has been worked out for is remembered."""
    exact = [_id_of(card, sha256, "float32") for card, sha256 in pinned]
    decided: dict[str, Precision] = {}
    for start in range(0, len(exact), 500):
        decided |= repository.precisions(session, project_id, exact[start : start + 500])
    return [
        _id_of(card, sha256, decided.get(ident, "float32")) for ident, (card, sha256) in zip(exact, pinned, strict=True)
    ]


@lru_cache(maxsize=8192)
def _id_of(card: str, weights_sha256: str, precision: Precision) -> str:
    return extractor_id(ModelCard.from_json(json.loads(card)), weights_sha256=weights_sha256, precision=precision)


def settle(session: Session, project_id: str, float32_id: str, found: Decision, /) -> Precision:
    """Writes the decision down; where another worker was first, its own holds."""
    lock_project(session, project_id)
    decided = repository.precisions(session, project_id, [float32_id])
    if float32_id in decided:
        return decided[float32_id]
    session.add(
        PrecisionRow(
            project_id=project_id,
            extractor_id=float32_id,
            precision=found.precision,
            parity=dict(found.parity),
            device=found.device,
            decided_at=utc_now(),
        )
    )
    session.flush()
    return found.precision


def decided(session: Session, project_id: str, float32_id: str, /) -> Precision | None:
    """The decision; float32 where that is what the project holds already; None where nothing is settled."""
    found = repository.precisions(session, project_id, [float32_id]).get(float32_id)
    if found is None and repository.active_segments(session, StoreKey(project_id, float32_id)):
        return "float32"
    return found
