"""What a score was computed from, as one identifier."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from estimators.catalog import SPECS, Need
from service.core.canonical import canonical_json, canonical_sha256

ALL_IMAGES = "all"
NESTED = "nested-1"  # service.rankings.sampling's
OF_THE_REFERENCE = frozenset({Need.BACKGROUND, Need.REFERENCE_FEATURES})
NEEDS_REFERENCE = (
    "needs a reference set: name one with `zooscout reference set DATASET` or PUT /v1/reference, then rank again"
)


def needs_reference(estimator: str, /) -> bool:
    return bool(SPECS[estimator].needs & OF_THE_REFERENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One extractor's features of one split of a dataset, and the reference set beside them, if there is one."""

    fingerprint: str
    split: str
    extractor_id: str
    reference: str | None  # fingerprint of the reference set
    sample: int | None = None  # images of a nested sample; None: all of the split

    def evidence_ids(self, estimators: Iterable[str], /) -> dict[str, str]:
        """What each estimator's score is computed from; those that need a reference set are left out without one.

        The reference counts for those estimators alone that look at it: naming another one changes no LogME.
        """
        made: dict[tuple[bool, bool], str] = {}
        found: dict[str, str] = {}
        for name, looks in _looks(tuple(estimators)):
            if any(looks) and self.reference is None:
                continue
            if looks not in made:
                made[looks] = evidence_id(
                    fingerprint=self.fingerprint,
                    split=self.split,
                    extractor_id=self.extractor_id,
                    sample_rule=ALL_IMAGES if self.sample is None else NESTED,
                    sample_size=self.sample,
                    background_id=self.reference if looks[0] else None,
                    reference_id=self.reference if looks[1] else None,
                )
            found[name] = made[looks]
        return found


@lru_cache(maxsize=256)
def _looks(estimators: tuple[str, ...]) -> tuple[tuple[str, tuple[bool, bool]], ...]:
    """Of each estimator whether it looks at a background and at the reference set's features."""
    needs = ((name, SPECS[name].needs) for name in estimators)
    return tuple((name, (Need.BACKGROUND in of, Need.REFERENCE_FEATURES in of)) for name, of in needs)


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
    return _hashed(extractor_id, fingerprint, split, sample_rule, sample_size, background_id, reference_id)


@lru_cache(maxsize=16_384)
def _hashed(
    extractor_id: str,
    fingerprint: str,
    split: str,
    sample_rule: str,
    sample_size: int | None,
    background_id: str | None,
    reference_id: str | None,
) -> str:
    begins, ends = _around(fingerprint, split, sample_rule, sample_size, background_id, reference_id)
    return hashlib.sha256(f"{begins}{json.dumps(extractor_id, ensure_ascii=False)}{ends}".encode()).hexdigest()


_PLACE = "the extractor's id"


@lru_cache(maxsize=1024)
def _around(
    fingerprint: str,
    split: str,
    sample_rule: str,
    sample_size: int | None,
    background_id: str | None,
    reference_id: str | None,
) -> tuple[str, str]:
    """What stands before and after the extractor's id in the canonical JSON: a ranking differs in nothing else."""
    text = canonical_json(
        {
            "fingerprint": fingerprint,
            "split": split,
            "sample_rule": sample_rule,
            "sample_size": sample_size,
            "extractor_id": _PLACE,
            "background_id": background_id,
            "reference_id": reference_id,
        }
    )
    begins, _, rest = text.partition(f'"extractor_id":"{_PLACE}"')
    return f'{begins}"extractor_id":', rest


def params_id(params: Mapping[str, Any], /) -> str:
    return canonical_sha256(dict(params))


DEFAULT_PARAMS_ID = params_id({})
