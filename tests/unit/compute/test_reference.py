"""The reference set's moments: right whatever the batches, kept while there is room, never mixed up."""

import numpy as np
import pytest
import torch

from estimators.moments import ClassMoments
from service.compute import reference
from service.compute.reference import ReferenceSet, WarmMoments
from service.embeddings.memory import MemoryStore
from service.embeddings.model import StoreKey
from service.embeddings.protocol import Rows

DIM = 6
HASHES = sorted(bytes([n]) * 32 for n in range(40))
KEYS = [StoreKey("default", name * 64) for name in "abc"]
BYTES_OF_ONE = DIM * DIM * 8


class CountingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: StoreKey, hashes: list[bytes], /) -> Rows:  # type: ignore[override]
        self.reads += 1
        return super().get(key, hashes)


def features(number: int) -> Rows:
    return np.random.default_rng(number).normal(number, 1 + number, (len(HASHES), DIM)).astype(np.float32)


@pytest.fixture
def store() -> CountingStore:
    made = CountingStore()
    for number, key in enumerate(KEYS):
        made.put(key, HASHES, features(number))
    return made


def test_moments_are_those_of_all_rows_whatever_the_batches(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "ROWS_AT_ONCE", 7)
    found = WarmMoments().of(ReferenceSet("one", HASHES), KEYS[1], store)
    assert store.reads == 6
    rows = torch.from_numpy(features(1)).double()
    torch.testing.assert_close(found.mean, rows.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.std, rows.std(0, correction=0), rtol=1e-9, atol=1e-12)
    at_once = ClassMoments.from_features(torch.from_numpy(features(1)), torch.arange(len(HASHES)) % 3)
    torch.testing.assert_close(found.total_scatter(), at_once.total_scatter(), rtol=1e-9, atol=1e-9)


def test_they_are_computed_once_for_each_extractor_and_reference_set(store: CountingStore) -> None:
    warm = WarmMoments()
    whole, half = ReferenceSet("whole", HASHES), ReferenceSet("half", HASHES[:20])
    for _ in range(2):
        for key in KEYS:
            for some in (whole, half):
                assert warm.of(some, key, store).n == len(some.hashes)
    assert store.reads == 6
    assert not torch.equal(warm.of(whole, KEYS[0], store).mean, warm.of(half, KEYS[0], store).mean)
    assert not torch.equal(warm.of(whole, KEYS[0], store).mean, warm.of(whole, KEYS[1], store).mean)


def test_the_longest_unused_go_when_there_is_no_room(store: CountingStore) -> None:
    warm = WarmMoments(kept_bytes=2 * BYTES_OF_ONE)
    one = ReferenceSet("one", HASHES)
    a, b, c = KEYS
    for key in (a, b, a, c):  # c takes the place of b: a was used since
        warm.of(one, key, store)
    assert store.reads == 3
    warm.of(one, a, store)
    assert store.reads == 3
    warm.of(one, b, store)
    assert store.reads == 4


def test_one_that_is_larger_than_the_room_is_still_kept_for_the_next_ranking(store: CountingStore) -> None:
    warm = WarmMoments(kept_bytes=1)
    for _ in range(3):
        warm.of(ReferenceSet("one", HASHES), KEYS[0], store)
    assert store.reads == 1
