"""What a score is computed from: the reference set counts for those estimators alone that look at it."""

import pytest

from estimators.catalog import SPECS
from service.core.canonical import canonical_sha256
from service.scoring.evidence import Pair, evidence_id, needs_reference

WITHOUT = Pair(fingerprint="f" * 64, split="train", extractor_id="e" * 64, reference=None)
BEFORE = Pair(fingerprint="f" * 64, split="train", extractor_id="e" * 64, reference="1" * 64)
AFTER = Pair(fingerprint="f" * 64, split="train", extractor_id="e" * 64, reference="2" * 64)


def test_the_identity_of_a_plain_score_is_the_one_from_before_there_were_reference_sets() -> None:
    plain = evidence_id(fingerprint="f" * 64, split="train", extractor_id="e" * 64)
    assert plain == "71e8cb561aa2cda96a2ebefefcda87976c0f924ad12a0eed4f7d6da0249855b7"
    for pair in (WITHOUT, BEFORE, AFTER):
        assert pair.evidence_ids(["logme", "knn", "leep"]) == dict.fromkeys(["logme", "knn", "leep"], plain)


@pytest.mark.parametrize("name", SPECS)
def test_naming_or_replacing_the_reference_set_changes_what_looks_at_it_and_nothing_else(name: str) -> None:
    before, after = BEFORE.evidence_ids([name])[name], AFTER.evidence_ids([name])[name]
    assert (before != after) == needs_reference(name)
    assert WITHOUT.evidence_ids([name]).get(name) == (None if needs_reference(name) else before)


def test_those_that_need_a_reference_set() -> None:
    assert {name for name in SPECS if needs_reference(name)} == {
        "ped_logme", "ped_lda", "ped_gbc", "frechet", "mmd", "proxy_a_distance", "otdd",
    }  # fmt: skip


def test_a_background_is_not_taken_for_reference_features() -> None:
    ids = BEFORE.evidence_ids(["ped_logme", "frechet", "mmd", "otdd", "logme"])
    assert ids["ped_logme"] == ids["frechet"]
    assert ids["mmd"] == ids["otdd"]
    assert len(set(ids.values())) == 3


def test_another_dataset_split_or_extractor_is_other_evidence() -> None:
    others = [
        Pair(fingerprint="0" * 64, split="train", extractor_id="e" * 64, reference="1" * 64),
        Pair(fingerprint="f" * 64, split="test", extractor_id="e" * 64, reference="1" * 64),
        Pair(fingerprint="f" * 64, split="train", extractor_id="0" * 64, reference="1" * 64),
    ]
    for name in ("logme", "frechet", "mmd"):
        assert len({pair.evidence_ids([name])[name] for pair in (BEFORE, *others)}) == 4


def test_an_evidence_id_is_the_hash_of_the_canonical_json() -> None:
    said = {
        "fingerprint": "f" * 64,
        "split": "train",
        "sample_rule": "nested-1",
        "sample_size": 200,
        "extractor_id": 'é"e',
        "background_id": None,
        "reference_id": "r" * 64,
    }
    assert evidence_id(**said) == canonical_sha256(said)
