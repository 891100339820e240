"""What is known of a segment once it is written; apart from its file, so that the API need not load FAISS."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WrittenSegment:
    n_rows: int
    dim: int
    bytes: int
    vectors_sha256: str
    hashes_sha256: str
