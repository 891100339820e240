"""What is marked `gpu` runs everywhere, on a device that is pretended where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
MIXED = "import torch; torch.ones(3, device='cuda') + torch.ones(3)"


def test_the_device_refuses_tensors_of_the_host() -> None:
    found = subprocess.run(
        [sys.executable, "-c", f"import tests.helpers.pretended_cuda; {MIXED}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "same device" in found.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here, and the tests marked gpu run on it")
def test_what_needs_a_device_passes_on_a_pretended_one() -> None:
    pretended = ["-p", "tests.helpers.pretended_cuda", "-m", "gpu", "-p", "no:cacheprovider", "-q"]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *pretended, "tests/gpu", "tests/unit/estimators"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    closing = found.stdout.strip().splitlines()[-1]
    assert found.returncode == 0, found.stdout[-5000:]
    assert "passed" in closing
    assert "skipped" not in closing
