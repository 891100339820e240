"""Whether a segment's files are what was registered. Loads no FAISS, so that it can be asked where FAISS is broken."""

from collections.abc import Mapping, Sequence

from service.embeddings.files import Files
from service.embeddings.model import HASH_BYTES, SegmentInfo, SegmentNames


def owners_of(segments: Sequence[SegmentInfo], /) -> dict[str, str]:
    """Whose file it is that has these bytes."""
    return {sha: info.id for info in segments for sha in (info.vectors_sha256, info.hashes_sha256)}


def problem_of(files: Files, info: SegmentInfo, owners: Mapping[str, str], /) -> str | None:
    """Reads both of its files to their end; None where they are what was registered."""
    names = SegmentNames.of(info.key, info.id)
    sizes = {names.hashes: info.n_rows * HASH_BYTES}
    sizes[names.vectors] = info.bytes - sizes[names.hashes]
    for name, sha256 in ((names.vectors, info.vectors_sha256), (names.hashes, info.hashes_sha256)):
        about, file = files.digest(name), name.rpartition("/")[2]
        if about is None:
            return f"{file} is gone"
        if about.sha256 in owners and about.sha256 != sha256:
            return f"{file} is a file of {owners[about.sha256]}"
        if about.size != sizes[name]:
            return f"{file} has {about.size} of {sizes[name]} bytes"
        if about.sha256 != sha256:
            return f"{file} is not what was written: its size is right, its bytes are not"
    return None
