"""Real target datasets that may lie beside the project."""

from pathlib import Path

import pytest

from service.blobs.store import BlobStore
from service.datasets.admission import admit_archive
from service.datasets.ingest import ingest

IMAGES = Path(__file__).parents[3] / "../shared/data/images"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not IMAGES.is_dir(), reason="the shared data do not lie beside the project"),
]

# name, classes, rows, training rows, copies, leaks
EXPECTED = [
    ("animal_mnist", 10, 900, 500, 0, 1),
    ("cifar10", 10, 900, 500, 0, 0),
    ("emoji_google", 9, 889, 496, 3, 1),
    ("emoji_twitter", 9, 885, 493, 7, 4),
    ("traffic_light", 3, 896, 498, 0, 0),
    ("xray3", 3, 897, 498, 1, 1),
]


@pytest.mark.parametrize(("name", "classes", "rows", "train", "copies", "leaks"), EXPECTED)
def test_real_archives(name, classes, rows, train, copies, leaks, tmp_path):
    path = IMAGES / f"{name}.zip"
    report = ingest(path, store=BlobStore(tmp_path), project="p").report
    assert (len(report.classes), report.images, report.splits["train"]) == (classes, rows, train)
    assert (report.duplicate_copies, report.leaks.total, report.conflicts.total) == (copies, leaks, 0)
    assert report.unreadable.total == report.unlabelled.total == 0
    assert admit_archive(path).images == report.images + report.duplicate_copies
