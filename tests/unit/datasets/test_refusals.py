"""Every bad input is refused under its own name, and the store holds nothing of it afterwards."""

import pytest

from service.blobs.store import BlobStore
from service.datasets.admission import admit_archive
from service.datasets.errors import DatasetRefused
from service.datasets.ingest import ingest
from tests.data.archives import GOOD, REFUSED, Refused

CASES = pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)


@CASES
def test_refused_by_the_worker_and_nothing_is_kept(case: Refused, tmp_path):
    store = BlobStore(tmp_path / "blobs")
    before = store.put_stream("p", [GOOD["cat/0.png"]])  # shared with most cases: it must survive them
    source = case.at(tmp_path)
    with pytest.raises(case.error) as caught:
        ingest(source, store=store, project="p", limits=case.limits, threads=2)
    assert type(caught.value) is case.error
    assert case.where in str(caught.value)
    files = [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert files == [store.path("p", before.sha256)]


@CASES
def test_inspection_finds_all_that_needs_no_decoding(case: Refused, tmp_path):
    source = case.at(tmp_path)
    if case.decoded:
        assert admit_archive(source, case.limits).complete
        return
    with pytest.raises(case.error) as caught:
        admit_archive(source, case.limits)
    assert case.where in str(caught.value)


def _leaves(kind: type[DatasetRefused]) -> set[type[DatasetRefused]]:
    below = kind.__subclasses__()
    return {leaf for sub in below for leaf in _leaves(sub)} if below else {kind}


def test_every_refusal_has_its_own_slug_and_says_what_to_do():
    leaves = _leaves(DatasetRefused)
    assert len({leaf.slug for leaf in leaves}) == len(leaves)
    for leaf in leaves:
        text = leaf("Something is wrong", where="a/b.png").detail
        assert text.startswith("Something is wrong ('a/b.png'). ")
        assert text.endswith(".")


def test_a_name_cannot_garble_the_message():
    leaf = next(iter(sorted(_leaves(DatasetRefused), key=lambda leaf: leaf.slug)))
    text = leaf("Wrong", where="\x1b[31m\n" + "x" * 5000).detail
    assert "\x1b" not in text
    assert "\n" not in text
    assert len(text) < 500
