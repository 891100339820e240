"""A disk that is full: an upload is refused for now, nothing of it stays, and nobody restarts anything afterwards."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from service.compute.causes import cause_of
from service.embeddings.files import LocalFiles
from service.embeddings.model import StoreKey
from service.embeddings.segment import write_segment
from service.jobs.fate import Cause
from tests.helpers.databases import PostgresServer
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import running, settings_for
from tests.soak.places import empty, fill, small_disk


def test_an_upload_to_a_full_disk_is_asked_to_come_back(postgres: PostgresServer) -> None:
    with tempfile.TemporaryDirectory(prefix="zs-disk-") as name, small_disk(Path(name) / "disk", mib=8) as small:
        if not small:
            pytest.skip("this user may not mount a file system")
        disk = Path(name) / "disk"
        with running(settings_for(disk / "data", postgres.migrated())) as service:
            archive = zipped(class_folders())
            fill(disk)
            refused = service.client.post("/v1/datasets", params={"name": "trees"}, content=archive)
            assert refused.status_code == 503
            assert refused.json()["type"] == "/problems/disk-full"
            assert int(refused.headers["Retry-After"]) > 0
            assert service.files("uploads") == []
            empty(disk)
            assert service.sealed(archive)["n_images"] == 24


def test_a_segment_that_finds_no_room_may_be_written_later() -> None:
    key, hashes = StoreKey("default", "a" * 64), [bytes([number]) * 32 for number in range(16)]
    rows = np.ones((16, 4096), np.float32)
    with tempfile.TemporaryDirectory(prefix="zs-disk-") as name, small_disk(Path(name) / "disk", mib=8) as small:
        if not small:
            pytest.skip("this user may not mount a file system")
        disk = Path(name) / "disk"
        files = LocalFiles(disk / "segments")
        fill(disk)
        with pytest.raises(OSError, match="No space left on device") as refused:
            write_segment(files, key, "seg_one", hashes, rows, storage="float32")
        assert cause_of(refused.value) is Cause.UNAVAILABLE  # tried again, not given up
        empty(disk)
        assert write_segment(files, key, "seg_two", hashes, rows, storage="float32").n_rows == 16
