"""A worker whose clock is minutes ahead of the machine that keeps the files."""

import os
from pathlib import Path

import pytest

from tests.helpers.service import ROOT, cli, running, settings_for
from tests.soak.town import MOVED_CLOCK


@pytest.mark.parametrize("ahead", [0.0, 150.0])
def test_a_collection_judges_age_by_the_clock_of_the_files(tmp_path: Path, ahead: float) -> None:
    settings = settings_for(tmp_path / "data", None, store={"grace_seconds": 60})
    with running(settings) as service:
        service.sealed()
    settings.upload_root.mkdir(exist_ok=True)
    arriving, abandoned = settings.upload_root / "up_arriving", settings.upload_root / "up_abandoned"
    for path in (arriving, abandoned):
        path.write_bytes(b"half an archive")
    old = abandoned.stat().st_mtime - 90
    os.utime(abandoned, (old, old))
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "sitecustomize.py").write_text(MOVED_CLOCK.format(seconds=ahead))
    collected = cli(settings, "store", "gc", PYTHONPATH=f"{moved}{os.pathsep}{ROOT}")
    assert collected.returncode == 0, collected.stderr
    assert (arriving.exists(), abandoned.exists()) == (True, False)
