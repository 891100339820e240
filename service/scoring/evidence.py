"""What a score was computed from, as one identifier."""

from collections.abc import Mapping
from typing import Any

from service.core.canonical import canonical_sha256

ALL_IMAGES = "all"


def evidence_id(
    *,
    fingerprint: str,
    split: str,
    extractor_id: str,
    sample_rule: str = ALL_IMAGES,
    sample_size: int | None = None,
    background_id: str | None = None,
    reference_id: str | None = None,
) -> str:
    """A score on fewer images, or against another background, has another evidence id."""
    return canonical_sha256(
        {
            "fingerprint": fingerprint,
            "split": split,
            "sample_rule": sample_rule,
            "sample_size": sample_size,
            "extractor_id": extractor_id,
            "background_id": background_id,
            "reference_id": reference_id,
        }
    )


def params_id(params: Mapping[str, Any], /) -> str:
    return canonical_sha256(dict(params))
