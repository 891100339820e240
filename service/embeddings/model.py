"""What is known of embeddings without their files; apart from them, so that the API loads neither FAISS nor NumPy."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

HASH_BYTES = 32
Storage = Literal["float32", "float16"]
State = Literal["active", "superseded", "damaged"]


class Kind(StrEnum):
    FEATURES = "features"
    SOURCE_PROBS = "source_probs"


@dataclass(frozen=True, slots=True)
class StoreKey:
    """Whose embeddings, made how, and which of an extractor's outputs."""

    project_id: str
    extractor_id: str
    kind: Kind = Kind.FEATURES


@dataclass(frozen=True, slots=True)
class WrittenSegment:
    n_rows: int
    dim: int
    storage: Storage
    bytes: int
    vectors_sha256: str
    hashes_sha256: str


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    id: str
    key: StoreKey
    state: State
    storage: Storage
    n_rows: int
    dim: int
    bytes: int
    vectors_sha256: str
    hashes_sha256: str
    created_at: datetime
    superseded_at: datetime | None


@dataclass(frozen=True, slots=True)
class SegmentNames:
    """Its two files."""

    vectors: str
    hashes: str

    @classmethod
    def of(cls, key: StoreKey, segment_id: str, /) -> "SegmentNames":
        stem = f"{key.project_id}/{key.extractor_id[:2]}/{key.extractor_id}/{segment_id}.{key.kind}"
        return cls(f"{stem}.faiss", f"{stem}.hashes")
